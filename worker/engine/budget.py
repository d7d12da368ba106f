"""How many prompt tokens a step takes: what the measured speed fits beside decoding, within bounds. Pure."""

from __future__ import annotations

from typing import Final

from worker.engine.config import EngineConfig
from worker.engine.sequence import Sequence
from worker.engine.speed import SpeedMeter

__all__ = ["prefill_budget", "pressure"]

_WAITING_WEIGHT: Final = 4
"""So many streams may be slowed down for each prompt that could begin: who waits has nothing yet."""


def prefill_budget(
    config: EngineConfig, meter: SpeedMeter, *, num_decode_rows: int, pressure: float
) -> int:
    """Prompt tokens of a step that decodes so many rows; `pressure` says how much more than usual they may take."""
    step_s, least = config.step_ms_max / 1000, config.chunk_tokens_min
    if num_decode_rows:
        decode_s = meter.decode_s(num_decode_rows)
        if decode_s >= step_s:  # the aim is missed as it is
            least = min(int(least * pressure), config.chunk_tokens_max)
        step_s = min(step_s, config.chunk_stretch * pressure * decode_s or step_s)
    fits = meter.prefill_tokens(step_s=step_s, num_decode_rows=num_decode_rows)
    if fits is None:
        return config.chunk_tokens_first
    return min(max(fits, least), config.chunk_tokens_max)


def pressure(
    config: EngineConfig,
    *,
    first: Sequence | None,
    num_beginning: int,
    num_decode_rows: int,
    now: float,
) -> float:
    """How much more than usual prompts may take from those that decode, at least 1.

    More when many prompts (`num_beginning`) have not begun although there are slots for them, compared with those that
    decode, and when the first of them has waited for long. `first` None: nobody waits beside a free slot.
    """
    if first is None or not num_decode_rows:
        return 1.0
    many = _WAITING_WEIGHT * num_beginning / num_decode_rows
    long = (now - first.arrived_at) / config.chunk_patience_s
    return max(1.0, many, long)
