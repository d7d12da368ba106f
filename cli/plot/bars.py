"""Groups of bars: a group for each thing measured, in it a bar for each series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from cli.plot.frame import Frame, color
from cli.plot.scale import Scale, linear

__all__ = ["Bars", "bar_chart"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """One series."""

    name: str
    values: Sequence[float | None]
    """One for each group; None: no bar."""
    spread: Sequence[tuple[float, float] | None] = ()
    """Lowest and highest of each value."""


def bar_chart(
    groups: Sequence[str],
    series: Sequence[Bars],
    *,
    title: str,
    x_label: str,
    y_label: str,
    mark: float | None = None,
) -> str:
    """An SVG element; `mark` draws a line across at that value."""
    frame = Frame(title=title, x_label=x_label, y_label=y_label, names=[one.name for one in series])
    values = [value for one in series for value in one.values if value is not None]
    values += [value for one in series for pair in one.spread if pair for value in pair]
    y = linear([*values, *(() if mark is None else (mark,))], frame.bottom, frame.top)
    width = (frame.right - frame.left) / max(1, len(groups))
    centers = tuple(frame.left + width * (index + 0.5) for index in range(len(groups)))
    bar = 0.8 * width / max(1, len(series))
    parts = []
    for number, one in enumerate(series):
        for index, value in enumerate(one.values):
            if value is None:
                continue
            left = centers[index] - 0.4 * width + number * bar
            parts.append(_bar(left, bar, value, y, color(number), f"{groups[index]}, {one.name}"))
            pair = one.spread[index] if index < len(one.spread) else None
            if pair is not None:
                middle = left + bar / 2
                parts.append(
                    f'<path d="M{middle:.1f} {y.at(pair[0]):.1f}V{y.at(pair[1]):.1f}" '
                    'style="stroke:var(--ink);stroke-width:1.5"/>'
                )
    if mark is not None:
        at = y.at(mark)
        parts.append(
            f'<path d="M{frame.left:g} {at:.1f}H{frame.right:g}" '
            'style="stroke:var(--ink);stroke-width:1.5;stroke-dasharray:5 4"/>'
        )
    x = Scale(centers[0], centers[-1], centers[0], centers[-1], centers)
    return frame.draw(x, y, "".join(parts), x_names=groups)


def _bar(left: float, width: float, value: float, y: Scale, fill: str, name: str) -> str:
    zero, at = y.at(0.0), y.at(value)
    return (
        f'<rect x="{left + 0.5:.1f}" y="{min(zero, at):.1f}" width="{max(1.0, width - 1):.1f}" '
        f'height="{abs(zero - at):.1f}" style="fill:{fill}"><title>{escape(name)}: {value:,.4g}</title></rect>'
    )
