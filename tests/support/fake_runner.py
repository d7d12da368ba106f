"""A `ModelRunner` without a model: fast, predictable, and stricter than the real one.

    runner = FakeRunner(num_slots=4, capacity=64)
    engine = EngineLoop(runner, EngineConfig(), SystemClock())
    …
    assert ids == fake_completion(prompt_ids, choice=0, num_tokens=5)

*Predictable*: each token is a pure function of prompt, choice, seed and position (`fake_token`), so a test knows the
whole answer beforehand, whatever runs beside it. Ids that `banned_ids` names are skipped, as a sampler must.

*Strict*: it keeps the token ids of every row like a KV slab, executes the copies, and checks everything that a real
runner relies on but could not notice: dense decode slots, chunks without gaps, each token computed once and in order,
the right contents in rows and blocks, one `release` per sequence. A breach raises AssertionError and stays in
`violations`.

*Scriptable*: `fail_next(error)` raises in the next step; sequences for which `breaks` holds (`poison(choice)`) get None
as token; `tokens` replaces the token function; `hold()` blocks steps; `step_s` moves a ManualClock.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.manual_clock import ManualClock
from tests.support.patience import PATIENCE_S
from worker.engine.answers import num_accepted, verify
from worker.engine.chunking import is_lonely
from worker.engine.ports import Batch, CacheLayout, PrefillChunk, Sampled, TopLogprob
from worker.engine.prefix import BLOCK_TOKENS
from worker.engine.sequence import Sequence
from worker.engine.stopping import banned_ids

__all__ = ["FakeRunner", "fake_completion", "fake_token"]

VOCAB_SIZE = 256
"""Ids of fake tokens are below it."""
_HELD_S_MAX = 2 * PATIENCE_S
"""A step that a test forgot to release goes on after so many seconds."""


def fake_token(
    prompt_ids: tuple[int, ...],
    choice: int,
    position: int,
    *,
    seed: int = 0,
    banned: frozenset[int] = frozenset(),
) -> int:
    """The id at `position` (from 0) of the completion; the next id upwards that is not banned."""
    key = repr((prompt_ids, choice, position, seed)).encode()
    token_id = hashlib.blake2b(key, digest_size=1).digest()[0]
    while token_id in banned:
        token_id = (token_id + 1) % VOCAB_SIZE
    return token_id


def fake_completion(
    prompt_ids: tuple[int, ...], *, choice: int = 0, num_tokens: int, seed: int = 0
) -> list[int]:
    """What a choice gets from a `FakeRunner` when nothing is banned and nothing stops it."""
    return [fake_token(prompt_ids, choice, i, seed=seed) for i in range(num_tokens)]


class FakeRunner:
    """See the module. `run` and `release` on the engine thread, everything else from the test."""

    def __init__(
        self,
        *,
        num_slots: int = 4,
        capacity: int = 64,
        tokens_max: int | None = None,
        num_blocks: int = 0,
        keeps_decoded: bool = False,
        num_drafted: int = 0,
        tokens: Callable[[Sequence, int], int] | None = None,
        step_s: Callable[[Batch], float] | None = None,
        clock: ManualClock | None = None,
    ) -> None:
        self._layout = CacheLayout(
            num_slots=num_slots,
            capacity=capacity,
            tokens_max=tokens_max,
            num_blocks=num_blocks,
            keeps_decoded=keeps_decoded,
            num_drafted=num_drafted,
        )
        self._tokens = tokens or _fake_token_of
        """(sequence, position in the completion) → id."""
        self._step_s = step_s
        self._clock = clock
        self._rows: list[list[int]] = [[] for _ in range(num_slots)]
        """Token ids whose keys and values a real slab would hold."""
        self._written = [0] * num_slots
        """Per row, tokens that a real slab would have taken memory for."""
        self._blocks: list[list[int]] = [[] for _ in range(num_blocks)]
        self._seen: set[int] = set()
        self._computed: dict[int, int] = {}
        """Sequence id → tokens computed so far, as counted here."""
        self._released: set[int] = set()
        self._tenures: dict[int, int] = {}
        """Sequence id → how many times it had given up its row when it was seen last."""
        self._errors: list[BaseException] = []
        self._gate = threading.Event()
        self._gate.set()
        self._entered = threading.Semaphore(0)
        self.breaks: Callable[[Sequence], bool] = lambda _: False
        """Sequences whose logits are 'not finite': their token is None."""
        self.batches: list[Batch] = []
        """Every batch so far, failed ones too."""
        self.violations: list[str] = []
        self.rested = threading.Event()
        """Set by every `rest`."""

    @property
    def layout(self) -> CacheLayout:
        return self._layout

    @property
    def released_ids(self) -> frozenset[int]:
        """Sequence ids that the engine said goodbye to."""
        return frozenset(self._released)

    def fail_next(self, error: BaseException, *, steps: int = 1) -> None:
        """The next `steps` steps raise `error` after their copies, before anything else."""
        self._errors += [error] * steps

    def poison(self, choice: int) -> None:
        """Every sequence with this choice index gets None as token."""
        self.breaks = lambda sequence: sequence.choice == choice

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Inside, every step waits at its beginning; it goes on when the block is left."""
        self._gate.clear()
        try:
            yield
        finally:
            self._gate.set()

    def wait_entered(self, *, timeout_s: float = PATIENCE_S) -> None:
        """Returns once for every step that has begun; blocks (use `asyncio.to_thread`), TimeoutError after a bound."""
        if not self._entered.acquire(timeout=timeout_s):
            raise TimeoutError("no step began")

    def run(self, batch: Batch) -> list[Sampled]:
        self.batches.append(batch)
        self._entered.release()
        self._gate.wait(_HELD_S_MAX)
        if self._clock is not None and self._step_s is not None:
            self._clock.advance(self._step_s(batch))
        for sequence in _everybody(batch):
            # Followers have slots before they are named in a batch, and may end before.
            for one in (sequence, *sequence.followers):
                self._see(one)
        self._copy(batch)
        if self._errors:
            raise self._errors.pop(0)
        self._check_layout(batch)
        for chunk in batch.prefill:
            self._compute(chunk.sequence, chunk.start, chunk.token_ids)
            self._save(chunk)
            self._follow(chunk)
        drafts = {draft.sequence: draft for draft in batch.drafts}
        self._check_drafts(batch)
        for sequence in batch.decode:
            ahead = drafts[sequence].token_ids if sequence in drafts else ()
            self._compute(sequence, sequence.num_tokens - 1, (sequence.generated_ids[-1], *ahead))
        self._save_decoded(batch)
        self._note_written()
        self._require(
            sum(self._written) <= self._layout.num_tokens,
            f"rows have written {self._written}, there is memory for {self._layout.num_tokens}",
        )
        sampled = []
        for sequence in batch.drawing:
            if sequence in drafts:
                sampled += verify(drafts[sequence], lambda _, of=sequence: self._sample(of))  # type: ignore[misc]
            else:
                sampled.append(self._sample(sequence))
        self.settle(batch, sampled)
        return sampled

    def settle(self, batch: Batch, sampled: list[Sampled]) -> None:
        """What stands of the drafts, if another runner's answer counts. Rows keep what was rejected, as a slab does."""
        for draft in batch.drafts:
            sequence = draft.sequence
            self._computed[sequence.id] = sequence.num_tokens + num_accepted(draft, sampled)

    def rest(self) -> None:
        """Rows are forgotten, as a slab forgets them; blocks stay."""
        self._rows = [[] for _ in self._rows]
        self._written = [0] * len(self._rows)
        self.rested.set()

    def release(self, sequence: Sequence) -> None:
        self._require(
            sequence.id not in self._released, f"sequence {sequence.id} was released twice"
        )
        self._require(
            sequence.id in self._seen, f"sequence {sequence.id} was released but never had a slot"
        )
        self._released.add(sequence.id)

    def _see(self, sequence: Sequence) -> None:
        """One that gave up its row begins anew; the rest of its life is one."""
        if sequence.num_preemptions != self._tenures.setdefault(sequence.id, 0):
            self._require(
                sequence.id in self._released or sequence.id not in self._seen,
                f"sequence {sequence.id} gave up its row and was not released",
            )
            self._tenures[sequence.id] = sequence.num_preemptions
            self._released.discard(sequence.id)
            self._computed.pop(sequence.id, None)
        self._seen.add(sequence.id)

    def _copy(self, batch: Batch) -> None:
        for copy in batch.copies:
            self._require(
                0 < copy.num_tokens <= len(self._rows[copy.source]),
                f"{copy} takes more than row {copy.source} holds",
            )
            self._rows[copy.target] = self._rows[copy.source][: copy.num_tokens]
        self._note_written()
        for trim in batch.trims:
            self._rows[trim.slot] = self._rows[trim.slot][: trim.num_tokens]
            self._written[trim.slot] = min(trim.num_tokens, self._written[trim.slot])
        begun = {chunk.sequence.slot for chunk in batch.prefill}
        for load in batch.loads:
            self._require(load.slot in begun, f"{load} is for nobody who begins")
            self._require(bool(load.blocks), f"{load} loads nothing")
            self._rows[load.slot] = [
                token for block in load.blocks for token in self._blocks[block]
            ]

    def _note_written(self) -> None:
        self._written = [
            max(written, len(row)) for written, row in zip(self._written, self._rows, strict=True)
        ]

    def _save(self, chunk: PrefillChunk) -> None:
        row = self._rows[chunk.sequence.slot or 0]
        for save in chunk.saves:
            end = save.start + BLOCK_TOKENS
            self._require(save.start % BLOCK_TOKENS == 0, f"{save} is not the place of a block")
            self._require(chunk.start < end <= chunk.end, f"{save} is not of {chunk}")
            self._blocks[save.block] = row[save.start : end]

    def _save_decoded(self, batch: Batch) -> None:
        self._require(self._layout.keeps_decoded or not batch.saves, "decoded tokens are not kept")
        for sequence, save in ((row.sequence, row.save) for row in batch.saves):
            row = self._rows[sequence.slot or 0]
            self._require(sequence in batch.decode, f"{save} is of nobody who decodes")
            end = save.start + BLOCK_TOKENS
            tokens = [*sequence.prompt_ids, *sequence.generated_ids]
            self._require(save.start % BLOCK_TOKENS == 0, f"{save} is not the place of a block")
            self._require(end <= len(tokens), f"{save} has tokens that nobody has drawn")
            self._blocks[save.block] = row[save.start : end]

    def _follow(self, chunk: PrefillChunk) -> None:
        self._require(chunk.is_last or not chunk.followers, f"followers of a part: {chunk}")
        for follower in chunk.followers:
            self._require(
                follower.prefill_ids == chunk.sequence.prefill_ids, f"another prompt: {follower}"
            )
            self._require(follower.id not in self._computed, f"computed before: {follower}")
            self._rows[follower.slot or 0] = list(self._rows[chunk.sequence.slot or 0])
            self._computed[follower.id] = chunk.end

    def _check_layout(self, batch: Batch) -> None:
        self._require(bool(batch.decode or batch.prefill), "an empty batch")
        sequences = _everybody(batch)
        slots = [sequence.slot for sequence in sequences]
        self._require(slots == list(range(len(slots))), f"slots have gaps: {slots}")
        for chunk in batch.prefill:
            size, prompt = chunk.end - chunk.start, chunk.sequence.num_prefill_tokens
            self._require(
                0 <= chunk.start < chunk.end <= prompt, f"a chunk out of its prompt: {chunk}"
            )
            self._require(prompt == 1 or not is_lonely(size), f"a row alone in its block: {chunk}")
            self._require(chunk.is_last or size % 2 == 0, f"an odd chunk: {chunk}")

    def _check_drafts(self, batch: Batch) -> None:
        self._require(
            batch.num_drafted <= self._layout.num_drafted, f"too many drafts: {batch.drafts}"
        )
        drafted = [draft.sequence for draft in batch.drafts]
        self._require(
            drafted == [sequence for sequence in batch.decode if sequence in drafted],
            f"drafts of others than decode, or in another order: {batch.drafts}",
        )
        for draft in batch.drafts:
            stop, ids = draft.sequence.stop, draft.token_ids
            self._require(bool(ids), f"nothing is proposed: {draft}")
            self._require(
                not (stop.eos_ids | stop.stop_ids) & set(ids), f"an end is proposed: {draft}"
            )
            self._require(
                len(draft.sequence.generated_ids) + len(ids) < stop.max_tokens,
                f"no room behind a draft: {draft}",
            )

    def _compute(self, sequence: Sequence, start: int, ids: tuple[int, ...]) -> None:
        slot = sequence.slot
        self._require(slot is not None, f"sequence {sequence.id} has no slot")
        self._require(
            sequence.id not in self._released, f"sequence {sequence.id} runs after its release"
        )
        row = self._rows[slot or 0]
        computed = self._computed.get(sequence.id, sequence.num_cached_tokens)
        self._require(
            computed == start, f"sequence {sequence.id} computes from {start}, but has {computed}"
        )
        self._computed[sequence.id] = start + len(ids)
        tokens = [*sequence.prompt_ids, *sequence.generated_ids]
        self._require(
            row[:start] == tokens[:start], f"slot {slot} does not hold sequence {sequence.id}"
        )
        row[start:] = ids
        self._require(len(row) <= self._layout.capacity, f"slot {slot} overflows")

    def _sample(self, sequence: Sequence) -> Sampled:
        if self.breaks(sequence):
            return Sampled(sequence=sequence, token_id=None)
        token_id = self._tokens(sequence, len(sequence.generated_ids))
        wanted = sequence.sampling.logprobs
        if wanted is None:
            return Sampled(sequence=sequence, token_id=token_id)
        top = tuple(TopLogprob((token_id + i) % VOCAB_SIZE, -0.5 - i) for i in range(wanted))
        return Sampled(sequence=sequence, token_id=token_id, logprob=-0.5, top=top)

    def _require(self, holds: bool, violation: str) -> None:
        if not holds:
            self.violations.append(violation)
            raise AssertionError(violation)


def _everybody(batch: Batch) -> dict[Sequence, None]:
    """In the order of their slots."""
    prefilling = [s for chunk in batch.prefill for s in (chunk.sequence, *chunk.followers)]
    return dict.fromkeys((*batch.decode, *prefilling))


def _fake_token_of(sequence: Sequence, position: int) -> int:
    return fake_token(
        sequence.prompt_ids,
        sequence.choice,
        position,
        seed=sequence.sampling.seed,
        banned=banned_ids(sequence),
    )
