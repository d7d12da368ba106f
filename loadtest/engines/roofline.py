"""How near decoding comes to what the memory can deliver: a step must read all weights and every row's keys and values.

    bytes of a step    weights (of the embedding single rows: none) + streams · positions · bytes of a position
    positions          prompt and half of the answer: the middle of what is measured
    share              bytes of a step / time of a step / bandwidth

Source: Williams, Waterman, Patterson, "Roofline", 2009; decoding is far left of its ridge.
"""

from __future__ import annotations

from typing import Final

from loadtest.engines.result import Measure, Result
from loadtest.table import Table

__all__ = ["roofline_tables", "step_bytes"]

_GB: Final = 1e9


def roofline_tables(result: Result) -> list[Table]:
    """One for each row of ours; nothing where no bandwidth was given, or nothing decoded."""
    bandwidth = result.plan.get("bandwidth")
    decode = [measure for measure in result.measures if measure.kind == "decode"]
    if not bandwidth or not decode:
        return []
    return [
        Table(
            title=f"{label}: share of {bandwidth:g} GB/s",
            head=("streams", "MB a step", "step, ms", "GB/s", "share"),
            rows=[_row(result, label, measure, bandwidth) for measure in decode],
        )
        for label in result.ours
    ]


def step_bytes(result: Result, label: str, streams: int) -> float | None:
    """That a step of so many streams must read; None where the engine does not say what it holds."""
    facts, plan = result.facts[label], result.plan
    weights, position = facts.get("weights_bytes"), facts.get("kv_bytes_per_token")
    if weights is None or position is None:
        return None
    positions = plan["prompt_tokens"] + plan["tokens"] / 2
    read = weights - (facts.get("looked_up_bytes") or 0)
    return float(read + streams * positions * position)


def _row(result: Result, label: str, measure: Measure, bandwidth: float) -> list[str]:
    read, step_ms = (
        step_bytes(result, label, measure.size),
        result.detail(label, measure, "step_ms"),
    )
    if read is None or step_ms is None:
        return [str(measure.size), "–", "–", "–", "–"]
    rate = read / _GB / (step_ms / 1e3)
    return [
        str(measure.size),
        f"{read / 1e6:.0f}",
        f"{step_ms:.2f}",
        f"{rate:.1f}",
        f"{100 * rate / bandwidth:.0f} %",
    ]
