"""A `ModelRunner` that keeps states of the oracle where another keeps keys and values.

Copies, blocks and chunks are carried out as the engine asks; a token is drawn from what the row really holds. So a
wrong row, prefix or replay shows as another answer, and a hole in a row fails the step.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final, final

from common import oracle
from worker.engine.ports import Batch, CacheLayout, PrefillChunk, Sampled, TopLogprob
from worker.engine.prefix import BLOCK_TOKENS
from worker.engine.sequence import Sequence
from worker.engine.stopping import banned_ids

__all__ = ["OracleRunner", "Pace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long steps take, seconds."""

    step_s: float
    row_s: float
    """Per decoding row."""
    prompt_token_s: float

    def of(self, batch: Batch) -> float:
        """Length of the step."""
        prompt_s = self.prompt_token_s * batch.num_prefill_tokens
        return self.step_s + self.row_s * len(batch.decode) + prompt_s


@final
class OracleRunner:
    """See the module. All methods on the engine thread."""

    def __init__(self, *, revision: str, layout: CacheLayout, pace: Pace) -> None:
        self._layout: Final = layout
        self._pace = pace
        self._root = oracle.root(revision)
        self._rows: list[list[bytes]] = [[] for _ in range(layout.num_slots)]
        """State after each position."""
        self._blocks: dict[int, list[bytes]] = {}
        self._never = threading.Event()

    @property
    def layout(self) -> CacheLayout:
        """What the engine may use."""
        return self._layout

    def run(self, batch: Batch) -> list[Sampled]:
        """See `worker.engine.ports.ModelRunner`. RuntimeError when a row does not hold what a chunk builds on."""
        self._never.wait(self._pace.of(batch))
        for copy in batch.copies:
            self._rows[copy.target] = self._rows[copy.source][: copy.num_tokens]
        for load in batch.loads:
            self._rows[load.slot] = [s for block in load.blocks for s in self._blocks[block]]
        for chunk in batch.prefill:
            self._compute(chunk.sequence, chunk.start, chunk.token_ids)
            self._share(chunk)
        for sequence in batch.decode:
            self._compute(sequence, sequence.num_tokens - 1, (sequence.generated_ids[-1],))
        for row in batch.saves:
            self._save(row.sequence, row.save.block, row.save.start)
        return [self._draw(sequence) for sequence in batch.drawing]

    def rest(self) -> None:
        """Nothing to give back but the rows."""
        self._rows = [[] for _ in self._rows]

    def release(self, sequence: Sequence) -> None:
        """Nothing is kept per sequence."""

    def _compute(self, sequence: Sequence, start: int, token_ids: tuple[int, ...]) -> None:
        row = self._row(sequence)
        if len(row) < start:
            raise RuntimeError(f"row {sequence.slot} holds {len(row)} positions, not {start}")
        del row[start:]
        state = row[-1] if row else self._root
        for token_id in token_ids:
            state = oracle.advance(state, token_id)
            row.append(state)

    def _share(self, chunk: PrefillChunk) -> None:
        for save in chunk.saves:
            self._save(chunk.sequence, save.block, save.start)
        for follower in chunk.followers:
            self._row(follower)[:] = self._row(chunk.sequence)

    def _save(self, sequence: Sequence, block: int, start: int) -> None:
        self._blocks[block] = self._row(sequence)[start : start + BLOCK_TOKENS]

    def _row(self, sequence: Sequence) -> list[bytes]:
        if sequence.slot is None:
            raise RuntimeError(f"sequence {sequence.id} has no row")
        return self._rows[sequence.slot]

    def _draw(self, sequence: Sequence) -> Sampled:
        state = self._row(sequence)[-1]
        sampling = sequence.sampling
        token_id = oracle.draw(
            state,
            choice=sequence.choice,
            seed=sampling.seed if sampling.temperature > 0 else None,
            banned=banned_ids(sequence),
        )
        if sampling.logprobs is None:
            return Sampled(sequence=sequence, token_id=token_id)
        return Sampled(
            sequence=sequence,
            token_id=token_id,
            logprob=oracle.logprob(state, token_id),
            top=tuple(TopLogprob(*each) for each in oracle.most_likely(state, sampling.logprobs)),
        )
