"""Outcomes in words: what was promised, what was measured, for tables and pages."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from chaos.outcome import Outcome

__all__ = ["MEASURES", "VERDICTS", "measured", "named", "promised", "shown"]

MEASURES: Final[Mapping[str, str]] = {
    "lost": "lost",
    "duplicated": "repeated",
    "gapped": "missing",
    "reordered": "out of order",
    "diverged": "different",
    "wrong_revision": "of another revision",
    "ghosts": "after the end",
    "left_in_flight": "left behind",
    "detect_ms": "time to detect",
    "recover_ms": "time to recover",
    "gap_ms_max": "largest gap",
    "added_gap_ms_p99": "added gap p99",
    "hit_streams": "streams that were hit",
    "moved": "streams moved",
    "amplification": "attempts per needed one",
    "victim_share": "share of the bad worker",
    "late_ms": "beyond the deadline",
    "ghost_share": "computed for nobody",
    "leaked_files": "files left open",
    "leaked_threads": "threads left",
    "grown_mib": "memory grown",
    "worker_deaths": "workers ended",
    "poison_deaths": "workers that it ended",
    "poison_refused_min": "refused as poison",
    "resync_ms": "new worker seen",
    "goodput_ratio_min": "goodput of the peak",
    "accepted_p99_ratio": "accepted p99 of before",
    "refusal_ms_p99": "refusal p99",
    "stop_ms": "until nothing computes",
    "neighbour_gap_ratio": "gaps of others, p99 of before",
}
"""Measure → what it is called."""

VERDICTS: Final = {"pass": "kept", "fail": "BROKEN", "void": "void"}

_CLEAN: Final = (
    "lost",
    "duplicated",
    "gapped",
    "reordered",
    "diverged",
    "wrong_revision",
    "ghosts",
)
_ALWAYS: Final = (*_CLEAN, "left_in_flight")


def named(measure: str) -> str:
    """What a measure is called."""
    return MEASURES.get(measure, measure)


def shown(measure: str, value: float) -> str:
    """A value with its unit."""
    if math.isinf(value):
        return "never"
    base = measure.removesuffix("_min")
    if "_ms" in measure:
        return f"{value:,.0f} ms" if value < 10_000 else f"{value / 1e3:.1f} s"
    if base.endswith("_share") or base == "goodput_ratio":
        return f"{100 * value:.3g} %"
    if base.endswith("_ratio"):
        return f"{value:.2f} ×"
    if base.endswith("_mib"):
        return f"{value:.1f} MiB"
    return f"{value:.2f}" if base == "amplification" else f"{value:,.0f}"


def promised(outcome: Outcome) -> str:
    """Like this: nothing lost, repeated, …; added gap p99 ≤ 300 ms."""
    expect = outcome.expect
    words = []
    if all(expect.get(name) == 0 for name in _CLEAN):
        words.append("nothing lost, repeated, missing or different")
    words += [
        f"{named(name)} {'≥' if name.endswith('_min') else '≤'} {shown(name, bound)}"
        for name, bound in expect.items()
        if name not in _ALWAYS or bound
    ]
    return "; ".join(words)


def measured(outcome: Outcome) -> str:
    """The same measures, as they were."""
    found = outcome.measures
    bad = [f"{found[name]:,.0f} {named(name)}" for name in _ALWAYS if found.get(name)]
    requests, tokens = found.get("requests", 0), found.get("tokens", 0)
    words = [
        ", ".join(bad) + f" of {requests:,.0f} requests"
        if bad
        else f"{requests:,.0f} requests, {tokens:,.0f} tokens right"
    ]
    if moved := found.get("moved"):
        words.append(f"{moved:,.0f} moved")
    words += [
        f"{named(name)} {shown(name, found[name])}"
        for name in outcome.expect
        if name not in _ALWAYS and name in found
    ]
    return "; ".join(words)
