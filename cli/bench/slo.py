"""A service level objective: what a request must keep to count for goodput.

`ttft=200ms,tpot=50ms` – every bound that is named must be kept. A request without a second token has no TPOT and keeps
any bound on it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from cli.bench.measure import Sample
from common.errors import InvalidRequest, Reason

__all__ = ["Slo", "parse_slo"]

_BOUND: Final = re.compile(r"(ttft|tpot|e2el)=(\d+(?:\.\d+)?)(ms|s)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """Bounds in seconds; None: no bound."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2el_s: float | None = None

    def __str__(self) -> str:
        bounds = (("ttft", self.ttft_s), ("tpot", self.tpot_s), ("e2el", self.e2el_s))
        return ",".join(f"{name}={1e3 * s:g}ms" for name, s in bounds if s is not None)

    def is_met(self, sample: Sample) -> bool:
        """Whether the request worked and kept every bound. One that the client cut short did not work."""
        if sample.error or sample.cancelled or sample.first_s is None:
            return False
        return (
            _within(sample.first_s, self.ttft_s)
            and _within(sample.per_token_s, self.tpot_s)
            and _within(sample.took_s, self.e2el_s)
        )


def parse_slo(text: str) -> Slo:
    """Raises `InvalidRequest(FIELD_MALFORMED)`."""
    bounds: dict[str, float] = {}
    for part in text.split(","):
        found = _BOUND.fullmatch(part.strip())
        if found is None:
            raise InvalidRequest(
                f"--slo {text!r}: write bounds of ttft, tpot and e2el, for example ttft=200ms,tpot=50ms",
                reason=Reason.FIELD_MALFORMED,
                field="slo",
            )
        name, number, unit = found.groups()
        bounds[f"{name}_s"] = float(number) * (1.0 if unit == "s" else 1e-3)
    return Slo(**bounds)


def _within(value: float | None, bound: float | None) -> bool:
    return value is None or bound is None or value <= bound
