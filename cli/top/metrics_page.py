"""A `/metrics` page as sums by name: labels do not matter to `lepton top`."""

from __future__ import annotations

from collections import defaultdict
from typing import final

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["MetricsPage"]


@final
class MetricsPage:
    """The samples of one page."""

    def __init__(self, text: str) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        try:
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    self._sums[sample.name] += sample.value
        except ValueError:
            self._sums.clear()  # not a metrics page

    def total(self, name: str) -> int | None:
        """The sum over all labels; None when the page does not have it."""
        value = self._sums.get(name)
        return None if value is None else round(value)

    def ratio(self, part: str, whole: str) -> float | None:
        """One sum by another; None when there is nothing to divide by."""
        divisor = self._sums.get(whole, 0.0)
        return self._sums.get(part, 0.0) / divisor if divisor else None
