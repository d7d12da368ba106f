"""How much of prompts a step computes: what the measured cost fits beside decoding, within bounds."""

from __future__ import annotations

from typing import Final

from worker.engine.chunking import CHUNK_TOKENS_MIN
from worker.engine.config import EngineConfig
from worker.engine.decode_cost import Decoding
from worker.engine.ports import Batch
from worker.engine.prefill_cost import PrefillCost
from worker.engine.sequence import Sequence
from worker.engine.speed import SpeedMeter

__all__ = ["PrefillBudget", "PrefillBudgets"]

_WAITING_WEIGHT: Final = 4
"""So many streams may be slowed down for each prompt that could begin: who waits has nothing yet."""
_DURATION_S_MIN: Final = 1e-6
"""A shorter step (a clock that stands still) teaches nothing."""


class PrefillBudget:
    """What is left of one step for prompts: tokens, and, once their cost is known, seconds."""

    def __init__(self, *, tokens: int, seconds: float, cost: PrefillCost) -> None:
        self._tokens = tokens
        self._seconds = seconds
        self._cost = cost
        self._is_whole = True
        """Nobody took anything so far."""

    def __bool__(self) -> bool:
        """Whether another prompt may begin; the first always may."""
        return self._is_whole or self._fits(0) >= CHUNK_TOKENS_MIN

    def tokens_at(self, position: int) -> int:
        """How many a prompt may compute from `position` on: at least as many as move any prompt, whatever they cost.

        For the prompt that was begun, or one that begins while this is true.
        """
        return max(self._fits(position), CHUNK_TOKENS_MIN)

    def spend(self, start: int, end: int) -> None:
        """Takes off what the positions [start, end) of a prompt cost."""
        self._is_whole = False
        self._tokens -= end - start
        if self._cost.is_measured:
            self._seconds -= self._cost.seconds(start, end)

    def close(self) -> None:
        """Nothing more in this step."""
        self._is_whole, self._tokens = False, 0

    def _fits(self, position: int) -> int:
        if not self._cost.is_measured:
            return self._tokens
        return self._cost.tokens(position, self._seconds, self._tokens)


class PrefillBudgets:
    """Learns from each step what prompts cost, alone and beside decoding: small chunks cost more per token."""

    def __init__(self, config: EngineConfig, meter: SpeedMeter) -> None:
        self._config = config
        self._meter = meter
        """Fed by others."""
        self._alone, self._beside = PrefillCost(), PrefillCost()

    def observe(self, batch: Batch, duration_s: float) -> None:
        """Learns from the measured length of a step."""
        if not batch.prefill or duration_s < _DURATION_S_MIN:
            return
        cost = self._beside if batch.decode else self._alone
        prefill_s = self._meter.prefill_share_s(duration_s, batch.decoding)
        cost.observe([(chunk.start, chunk.end) for chunk in batch.prefill], prefill_s)

    def begin(
        self,
        *,
        decode: tuple[Sequence, ...],
        first: Sequence | None,
        num_beginning: int,
        now: float,
    ) -> PrefillBudget:
        """Of a step that decodes `decode`, while prompts may begin, so many, `first` before the others.

        They get at least the time of `chunk_tokens_min` at the beginning of a prompt, also beyond `step_ms_max`, but
        no more than `chunk_stretch` allows.
        """
        config = self._config
        cost = self._beside if decode and self._beside.is_measured else self._alone
        if not cost.is_measured:
            cost = self._beside
        if not cost.is_measured:
            return PrefillBudget(tokens=config.chunk_tokens_first, seconds=0.0, cost=cost)
        decode_s = self._meter.decode_s(Decoding.of(decode))
        pressure = _pressure(
            config,
            first=first,
            num_beginning=num_beginning,
            num_decode_rows=len(decode),
            now=now,
        )
        seconds, least = config.step_ms_max / 1000 - decode_s, config.chunk_tokens_min
        if seconds <= 0:  # the aim is missed as it is
            least = min(int(least * pressure), config.chunk_tokens_max)
        if decode_s:
            borne_s = (config.chunk_stretch * pressure - 1) * decode_s
            seconds = min(max(seconds, cost.seconds(0, least)), borne_s)
        return PrefillBudget(tokens=config.chunk_tokens_max, seconds=seconds, cost=cost)


def _pressure(
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
