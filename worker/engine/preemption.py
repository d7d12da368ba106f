"""Who gives up a row for a request of a higher priority that waits. Pure.

    RUNNING ──put_back──> WAITING ──> PREFILLING ──> RUNNING        the same tokens, to the bit, as if nothing had been

Its keys and values are computed again from its ids, as those of a stream that another worker began (ADR 0013): nothing
is told twice. Each sequence is preempted `preemptions_max` times at most, so work of low priority comes to its end.
"""

from __future__ import annotations

from collections.abc import Iterable

from worker.engine.config import EngineConfig
from worker.engine.sequence import Sequence

__all__ = ["victim_for"]


def victim_for(
    first: Sequence,
    running: Iterable[Sequence],
    *,
    shortage: int = 0,
    config: EngineConfig,
    now: float,
) -> Sequence | None:
    """Whose row `first`, who is next, may have; None: it has to wait until one is free.

    `shortage`: tokens of memory that it lacks as well (`worker.engine.row_memory`).

    The lowest priority below its own, of those the fewest tokens to compute again. Not who computes known tokens at the
    moment, nor who came from another worker: such a one goes before all others and would take its row back.
    """
    if now - first.arrived_at < config.preempt_after_s:
        return None
    return min(
        (
            sequence
            for sequence in running
            if sequence.priority < first.priority
            and sequence.num_preemptions < config.preemptions_max
            and sequence.num_tokens_max >= shortage
            and sequence.next_known_id is None
            and not sequence.is_continued
        ),
        key=lambda sequence: (sequence.priority, sequence.num_tokens),
        default=None,
    )
