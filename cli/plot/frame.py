"""What every chart has: a title, a legend, two axes with a grid, and colours that follow light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from cli.plot.scale import Scale, label_of

__all__ = ["COLORS", "PALETTE_CSS", "TEXT_CSS", "Frame", "color", "document"]

COLORS: Final = 8
"""Different ones; more series than that begin again."""

PALETTE_CSS: Final = (
    ":root{--paper:#fff;--ink:#1f2328;--soft:#656d76;--line:#d8dee4;--c0:#0969da;--c1:#bc4c00;--c2:#1a7f37;"
    "--c3:#8250df;--c4:#bf3989;--c5:#9a6700;--c6:#0b7285;--c7:#57606a}"
    "@media(prefers-color-scheme:dark){:root{--paper:#0d1117;--ink:#e6edf3;--soft:#8d96a0;--line:#30363d;"
    "--c0:#58a6ff;--c1:#f0883e;--c2:#3fb950;--c3:#bc8cff;--c4:#f778ba;--c5:#d29922;--c6:#39c5cf;--c7:#a5adb6}}"
)
"""Colours as CSS variables: paper, ink, soft ink, lines, and `c0` … for series."""

TEXT_CSS: Final = (
    "text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:var(--ink)}"
    ".t{font-weight:600;font-size:14px}.s{fill:var(--soft)}.g{stroke:var(--line);stroke-width:1}"
    ".p{fill:var(--paper)}"
)
_WIDTH: Final = 640
_LEFT, _RIGHT, _BOTTOM = 74, 16, 46
_LEGEND_LINE: Final = 18
_LETTER: Final = 6.6
"""Mean width of a letter at 12 px; legends are laid out without a browser."""


def color(index: int) -> str:
    """Of the series with that number."""
    return f"var(--c{index % COLORS})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The surroundings of a plot."""

    title: str
    x_label: str
    y_label: str
    names: Sequence[str]
    """Of the series, for the legend; a single one gets none."""
    plot_height: int = 240

    @property
    def left(self) -> float:
        return _LEFT

    @property
    def right(self) -> float:
        return _WIDTH - _RIGHT

    @property
    def top(self) -> float:
        return 36 + _LEGEND_LINE * (1 + max((row for _, row in self._places()), default=-1))

    @property
    def bottom(self) -> float:
        return self.top + self.plot_height

    def draw(self, x: Scale, y: Scale, inside: str, *, x_names: Sequence[str] = ()) -> str:
        """The whole chart; `x_names` are written at the ticks of x instead of their numbers."""
        height = self.bottom + _BOTTOM
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:g}" role="img" '
            f'aria-label="{escape(self.title)}"><rect class="p" width="{_WIDTH}" height="{height:g}"/>',
            f'<text class="t" x="{self.left - 58:g}" y="22">{escape(self.title)}</text>',
            *self._legend(),
            *self._grid(x, y, x_names),
            inside,
            f'<text class="s" x="{self.right:g}" y="{height - 8:g}" text-anchor="end">{escape(self.x_label)}</text>',
            f'<text class="s" transform="translate(14 {self.bottom:g}) rotate(-90)">{escape(self.y_label)}</text>',
            "</svg>",
        ]
        return "".join(parts)

    def _grid(self, x: Scale, y: Scale, x_names: Sequence[str]) -> list[str]:
        parts = []
        for tick in y.ticks:
            at = y.at(tick)
            parts.append(f'<path class="g" d="M{self.left:g} {at:.1f}H{self.right:g}"/>')
            parts.append(
                f'<text class="s" x="{self.left - 6:g}" y="{at + 4:.1f}" text-anchor="end">{label_of(tick)}</text>'
            )
        for index, tick in enumerate(x.ticks):
            name = x_names[index] if x_names else label_of(tick)
            parts.append(
                f'<text class="s" x="{x.at(tick):.1f}" y="{self.bottom + 18:g}" text-anchor="middle">'
                f"{escape(name)}</text>"
            )
        return parts

    def _legend(self) -> list[str]:
        parts = []
        for index, ((at, row), name) in enumerate(zip(self._places(), self.names, strict=False)):
            y = 42 + row * _LEGEND_LINE
            parts.append(
                f'<rect x="{at:.0f}" y="{y - 9}" width="12" height="10" rx="2" style="fill:{color(index)}"/>'
                f'<text x="{at + 17:.0f}" y="{y}">{escape(name)}</text>'
            )
        return parts

    def _places(self) -> list[tuple[float, int]]:
        """Pixel and row of each entry of the legend."""
        places: list[tuple[float, int]] = []
        at, row = self.left - 58, 0
        for name in self.names if len(self.names) > 1 else ():
            width = 17 + _LETTER * len(name) + 14
            if at > self.left and at + width > self.right:
                at, row = self.left - 58, row + 1
            places.append((at, row))
            at += width
        return places


def document(svg: str) -> str:
    """The chart as a file of its own, with its colours in it."""
    return svg.replace("><rect", f"><style>{PALETTE_CSS}{TEXT_CSS}</style><rect", 1) + "\n"
