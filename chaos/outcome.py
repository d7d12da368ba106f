"""What a run amounts to: the ledger and the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from chaos.injection import Injection

__all__ = ["Outcome", "Verdict", "broken", "judge"]

Verdict = Literal["pass", "fail", "void"]
"""`void`: the run proves nothing; too little was in flight, or a promised number could not be measured."""

_LEAST = "_min"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One run of one scenario."""

    scenario: str
    promise: str
    title: str
    seed: int
    control: bool
    """With the protection switched off: it should fail."""
    verdict: Verdict
    why: tuple[str, ...]
    """Expectations that did not hold, or what makes it void."""
    measures: Mapping[str, float]
    expect: Mapping[str, float]
    errors: Mapping[str, int]
    """Ends that were not good, by reason."""
    stories: tuple[str, ...] = ()
    injections: tuple[Injection, ...] = ()
    took_s: float = 0.0
    deaths: tuple[str, ...] = field(default=())
    """Processes that ended, and why."""

    @property
    def is_right(self) -> bool:
        """A run must pass; its control must fail."""
        return self.verdict == ("fail" if self.control else "pass")

    def as_json(self) -> dict[str, Any]:
        """JSON data; what is infinite becomes None."""
        data = asdict(self)
        data["measures"] = {
            key: round(value, 3) if math.isfinite(value) else None
            for key, value in self.measures.items()
        }
        return data


def broken(measures: Mapping[str, float], expect: Mapping[str, float]) -> list[str]:
    """Names of expectations that do not hold, those without a measure left out."""
    return [
        name
        for name, bound in expect.items()
        if name in measures
        and (measures[name] < bound if name.endswith(_LEAST) else measures[name] > bound)
    ]


def judge(
    measures: Mapping[str, float],
    expect: Mapping[str, float],
    injections: tuple[Injection, ...],
    *,
    in_flight_min: int,
) -> tuple[Verdict, tuple[str, ...]]:
    """Void first: a run that proves nothing neither passes nor fails."""
    if not injections:
        return "void", ("no fault was done",)
    least = min(one.in_flight for one in injections)
    if least < in_flight_min:
        return "void", (f"{least} requests in flight at a fault, fewer than {in_flight_min}",)
    if failed := broken(measures, expect):
        return "fail", tuple(
            f"{name} is {measures[name]:.4g}, promised {expect[name]:.4g}" for name in failed
        )
    if missing := [name for name in expect if name not in measures]:
        return "void", tuple(f"{name} was not measured" for name in missing)
    return "pass", ()
