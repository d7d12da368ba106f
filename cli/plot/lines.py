"""Curves: one line a series, a dot at each point where there are few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from cli.plot.frame import Frame, color
from cli.plot.scale import Scale, label_of, linear, logarithmic

__all__ = ["Line", "line_chart"]

_DOTS_MAX: Final = 24
"""With more points than that a line has no dots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One series."""

    name: str
    points: Sequence[tuple[float, float]]
    spread: Sequence[tuple[float, float]] = ()
    """Lowest and highest y of each point, drawn as a bar through it."""
    steps: bool = False
    """Each value holds until the next."""
    dashed: bool = False
    """To tell two kinds of series apart."""


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_ticks: Sequence[float] = (),
    x_log: bool = False,
) -> str:
    """An SVG element. With `x_ticks` these are the numbers under the axis."""
    frame = Frame(
        title=title, x_label=x_label, y_label=y_label, names=[line.name for line in lines]
    )
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    ys += [y for line in lines for pair in line.spread for y in pair]
    inset = frame.left + 12, frame.right - 12
    x = logarithmic(xs, *inset, x_ticks) if x_log else _x_linear(xs, inset, x_ticks)
    y = linear(ys, frame.bottom, frame.top)
    drawn = "".join(_line(line, color(index), x, y) for index, line in enumerate(lines))
    return frame.draw(x, y, drawn)


def _x_linear(xs: Sequence[float], inset: tuple[float, float], ticks: Sequence[float]) -> Scale:
    scale = linear(xs, *inset)
    return Scale(scale.low, scale.high, *inset, tuple(ticks)) if ticks else scale


def _line(line: Line, stroke: str, x: Scale, y: Scale) -> str:
    if not line.points:
        return ""
    path, before = [], None
    for point in line.points:
        at_x, at_y = x.at(point[0]), y.at(point[1])
        if before is None:
            path.append(f"M{at_x:.1f} {at_y:.1f}")
        elif line.steps:
            path.append(f"H{at_x:.1f}V{at_y:.1f}")
        else:
            path.append(f"L{at_x:.1f} {at_y:.1f}")
        before = point
    dashes = ";stroke-dasharray:7 4" if line.dashed else ""
    parts = [
        f'<path d="{"".join(path)}" style="fill:none;stroke:{stroke};stroke-width:2{dashes}"/>'
    ]
    parts += [
        f'<path d="M{x.at(at):.1f} {y.at(low):.1f}V{y.at(high):.1f}" '
        f'style="stroke:{stroke};stroke-width:5;opacity:.3"/>'
        for (at, _), (low, high) in zip(line.points, line.spread, strict=False)
    ]
    if len(line.points) <= _DOTS_MAX and not line.steps:
        parts += [
            f'<circle cx="{x.at(at):.1f}" cy="{y.at(value):.1f}" r="3.5" style="fill:{stroke}">'
            f"<title>{escape(line.name)}: {label_of(at)} → {value:,.4g}</title></circle>"
            for at, value in line.points
        ]
    return "".join(parts)
