"""One row of the report: what was measured, what came out, what was aimed at."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Row"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One number and, where there is one, its bound."""

    what: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    how: str = ""
    """The numbers behind it."""

    @property
    def is_met(self) -> bool | None:
        """Whether the bound is kept; None: there is none."""
        if self.at_most is not None:
            return self.value <= self.at_most
        return None if self.at_least is None else self.value >= self.at_least

    def cells(self) -> list[str]:
        """For a table."""
        aim = "–"
        if self.at_most is not None:
            aim = f"≤ {self.at_most:g}"
        elif self.at_least is not None:
            aim = f"≥ {self.at_least:g}"
        met = {True: "yes", False: "**no**", None: ""}[self.is_met]
        return [self.what, f"{self.value:.3g}{self.unit and ' ' + self.unit}", aim, met, self.how]
