"""Which sequence computes what in the next step. It counts; the runtime stores.

    add ──> queue ──> prefilling slot ──> decoding slot ──> EndEvent
            │  ^           │                │  │
            │  └───────────┼───preemption───┘  │
            └──────────────┴───────────────────┴──────────> FailedEvent   (abort, expire, refuse_late, fail)

Every step decodes all running sequences, some of them several tokens ahead (`worker.engine.drafter`), and, within a
budget of tokens, computes prompts: first the one that was begun, then those that wait, as long as slots and budget
last. What is begun is finished first, so a sequence of high priority overtakes those that wait but not the one prompt
that is half computed. A decoding sequence keeps its slot to its end, since prompt + max_tokens fit into every slot, or
until one of a higher priority needs it (`worker.engine.preemption`).

Pure: time comes in as an argument, seconds on the engine's clock; engine thread only.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import TypeAlias

from common.errors import Cancelled, DeadlineExceeded, Internal, LeptonError, Overloaded, Reason
from worker.engine.answers import num_accepted
from worker.engine.beginnings import Beginnings
from worker.engine.budget import PrefillBudget, PrefillBudgets
from worker.engine.chunking import chunk_sizes
from worker.engine.config import EngineConfig
from worker.engine.drafter import Drafter
from worker.engine.events import (
    EndEvent,
    Event,
    FailedEvent,
    ReplayedEvent,
    ScheduledEvent,
    TokenEvent,
)
from worker.engine.ports import (
    Batch,
    BlockLoad,
    CacheLayout,
    PrefillChunk,
    Sampled,
)
from worker.engine.preemption import victim_for
from worker.engine.prefix_digest import PrefixDigest
from worker.engine.queue import Waiting, WaitingQueue, retry_after_s
from worker.engine.row_memory import RowMemory
from worker.engine.sequence import Sequence, SequenceState
from worker.engine.slots import SlotTable
from worker.engine.speed import SpeedMeter
from worker.engine.stopping import finish

__all__ = ["Scheduler", "SequenceEvent"]

SequenceEvent: TypeAlias = tuple[Sequence, Event]
"""An event and whom it concerns. A method's events are in the order in which they happened."""


class Scheduler:
    """Every sequence that is added ends in exactly one `EndEvent` or `FailedEvent`.

    One turn is `schedule`, `refuse_late`, then `update` or `fail`; `add`, `abort` and `expire` come between turns.
    """

    def __init__(self, config: EngineConfig, layout: CacheLayout) -> None:
        self._config = config
        self._queue = WaitingQueue(overtaken_max=config.overtaken_max)
        self._slots = SlotTable(layout)
        self._memory = RowMemory(layout)
        self.digest = PrefixDigest(config.prefix_digest_max)
        """What is kept of prompts, for routers; any thread."""
        self._beginnings = Beginnings(layout, self.digest)
        self._drafter = Drafter(config, layout)
        self._meter = SpeedMeter()
        self._budgets = PrefillBudgets(config, self._meter)
        self._started: list[Sequence] = []
        """Got a slot in the last `schedule`; their readers do not know yet."""
        self._preempted: list[Sequence] = []
        """Gave up their slots, and the runner does not know yet."""

    def __repr__(self) -> str:
        return f"<Scheduler {self._queue!r} {self._slots!r}>"

    @property
    def waiting(self) -> Waiting:
        return self._queue.waiting

    @property
    def num_running(self) -> int:
        """Sequences with a slot."""
        return self._slots.num_occupied

    @property
    def kv_usage(self) -> float:
        """Share of the KV slab that holds computed tokens, 0 to 1."""
        return self._slots.usage

    @property
    def meter(self) -> SpeedMeter:
        return self._meter

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._queue and not self._slots.num_occupied

    def add(self, sequence: Sequence) -> None:
        """Takes a new sequence over; from here on it is owed a terminal event."""
        self._queue.put(sequence)

    def abort(self, sequence: Sequence, now: float) -> list[SequenceEvent]:
        """Ends a sequence because nobody wants it any more; nothing happens to one that has ended."""
        if sequence.state is SequenceState.FINISHED:
            return []
        return [self._fail(sequence, Cancelled("the request was cancelled"), now)]

    def expire(self, now: float) -> list[SequenceEvent]:
        """Ends every sequence whose deadline has come."""
        late = [s for s in self._everybody() if s.deadline is not None and s.deadline <= now]
        return [
            self._fail(
                s, DeadlineExceeded("the deadline passed before the answer was complete"), now
            )
            for s in late
        ]

    def schedule(self, now: float) -> Batch | None:
        """The work of the next step; None exactly when idle."""
        self._preempt(now)
        copies = self._slots.compact()
        decode = self._slots.decoding
        budget = self._budgets.begin(
            decode=decode,
            first=self._next(),
            num_beginning=min(self._queue.waiting.sequences, self._slots.num_free),
            now=now,
        )

        chunks: list[PrefillChunk] = []
        for sequence in self._slots.prefilling:
            if sequence.leader is None:
                self._extend(chunks, sequence, budget)

        self._started = []
        loads: list[BlockLoad] = []
        while budget and (first := self._next()) is not None:
            if self._beginnings.is_coming(first, now):
                break
            sequence = self._queue.take()
            loads += self._start(sequence, now)
            self._start_followers(sequence, now)
            self._extend(chunks, sequence, budget)

        if not decode and not chunks:
            return None
        return Batch(
            copies=copies,
            trims=self._memory.trim(self._slots.occupants),
            loads=tuple(loads),
            prefill=tuple(chunks),
            decode=decode,
            drafts=() if chunks else self._drafter.propose(decode, self._meter),
            saves=self._beginnings.of_rows(decode),
        )

    def take_preempted(self) -> tuple[Sequence, ...]:
        """Those that gave up their slots since the last call: the runner forgets them, and meets them again."""
        preempted, self._preempted = self._preempted, []
        return tuple(preempted)

    def refuse_late(self, now: float) -> list[SequenceEvent]:
        """Ends those that the last `schedule` left waiting although they should have begun by now.

        After `schedule`, so that even a request that will not wait at all gets a slot that is free.
        """
        late = [s for s in self._queue.sequences if s.start_by is not None and s.start_by <= now]
        hint_s = retry_after_s(self.waiting, config=self._config, speed=self._meter.speed)
        return [
            self._fail(
                s,
                Overloaded(
                    "no row of the batch became free for as long as the request would wait",
                    reason=Reason.QUEUE_TIMEOUT,
                    retry_after_s=hint_s,
                ),
                now,
            )
            for s in late
        ]

    def observe(self, batch: Batch, duration_s: float) -> None:
        """Learns from the measured length of a step; the next budgets follow."""
        self._meter.observe(
            duration_s=duration_s,
            num_prefill_tokens=batch.num_prefill_tokens,
            decoding=batch.decoding,
            num_starts=len(self._started),
            num_drafted=batch.num_drafted,
        )
        self._budgets.observe(batch, duration_s)

    def update(self, batch: Batch, sampled: SequenceOf[Sampled], now: float) -> list[SequenceEvent]:
        """Takes in what the runner computed; `worker.engine.answers.check_answer` has passed."""
        events = self._scheduled_events()
        self._beginnings.commit()
        for sequence in batch.decode:
            sequence.num_computed_tokens += 1
        for draft in batch.drafts:
            accepted = num_accepted(draft, sampled)
            draft.sequence.num_computed_tokens += accepted
            self._drafter.learn(draft, accepted)
        for chunk in batch.prefill:
            chunk.sequence.num_computed_tokens = chunk.end
            if chunk.is_last:
                self._finish_prompt(chunk)
        for result in sampled:
            events += self._append(result, now)
        return events

    def fail(self, now: float) -> list[SequenceEvent]:
        """Ends the batch after the runner failed: every sequence that holds a slot, as all of them are in each batch.

        The rows cannot be trusted any more, half of the copies may have happened. Those that wait go on.
        """
        events = self._scheduled_events()
        self._beginnings.drop()
        for sequence in self._slots.occupants:
            error = Internal("the engine failed in this step", reason=Reason.ENGINE_FAILED)
            events.append(self._fail(sequence, error, now))
        return events

    def check_integrity(self) -> None:
        """Raises RuntimeError when the books do not agree."""
        self._slots.check_integrity()
        self._queue.check_integrity()
        self._beginnings.check_integrity()

    def _preempt(self, now: float) -> None:
        """Frees a slot for who is next, if it may have one of those that decode.

        Not beside a prompt that is half computed: that is finished first, and the slot would stay empty.
        """
        first = self._queue.peek()
        if first is None or self._slots.prefilling or self._next() is not None:
            return
        victim = victim_for(
            first,
            self._slots.decoding,
            shortage=self._memory.shortage(first, self._slots.occupants),
            config=self._config,
            now=now,
        )
        if victim is not None:
            self._slots.free(victim)
            self._drafter.forget(victim)
            victim.put_back(now)
            self._queue.put_back(victim)
            self._preempted.append(victim)

    def _next(self) -> Sequence | None:
        """Who may begin now: there is a slot, and memory for all that it may write."""
        first = self._queue.peek() if self._slots.num_free else None
        if first is None or self._memory.shortage(first, self._slots.occupants):
            return None
        return first

    def _start(self, sequence: Sequence, now: float) -> list[BlockLoad]:
        """Gives a slot and, where the beginning of the prompt is known, the load that fills it."""
        slot = self._slots.admit(sequence)
        sequence.state = SequenceState.PREFILLING
        sequence.scheduled_at = now
        self._started.append(sequence)
        blocks = self._beginnings.begin(sequence)
        return [BlockLoad(slot, blocks)] if blocks else []

    def _start_followers(self, leader: Sequence, now: float) -> None:
        """Gives slots to the other choices of the request, as far as there are any that begin with the same tokens."""
        while (follower := self._next()) is not None:
            is_of_group = leader.group is not None and follower.group == leader.group
            if not is_of_group or follower.prefill_ids != leader.prefill_ids:
                return
            self._queue.take()
            self._slots.admit(follower)
            follower.state = SequenceState.PREFILLING
            follower.scheduled_at = now
            follower.num_cached_tokens = leader.num_cached_tokens
            follower.leader = leader
            leader.followers.append(follower)
            self._started.append(follower)

    def _finish_prompt(self, chunk: PrefillChunk) -> None:
        """A prompt is complete, and with it the rows of its followers."""
        leader = chunk.sequence
        for sequence in (leader, *chunk.followers):
            sequence.num_computed_tokens = chunk.end
            sequence.leader = None
            self._slots.promote(sequence)
            sequence.state = SequenceState.RUNNING
        leader.followers.clear()
        self._beginnings.tell(leader)

    def _extend(
        self, chunks: list[PrefillChunk], sequence: Sequence, budget: PrefillBudget
    ) -> None:
        """Adds what a prompt may compute in this step, and leaves the rest of `budget` to others.

        That is nothing when this prompt is not finished, whatever the rounding left over: prompts must finish in the
        order of their slots, or the border between decoding and prefilling rows could not simply move.
        """
        start = sequence.num_computed_tokens
        for size in chunk_sizes(sequence.num_prefill_tokens - start, budget.tokens_at(start)):
            end = start + size
            saves = self._beginnings.of_chunk(sequence, start, end)
            followers = sequence.followers if end == sequence.num_prefill_tokens else ()
            chunks.append(
                PrefillChunk(
                    sequence=sequence,
                    start=start,
                    end=end,
                    saves=saves,
                    followers=tuple(followers),
                )
            )
            budget.spend(start, end)
            start = end
        if not chunks[-1].is_last:
            budget.close()

    def _scheduled_events(self) -> list[SequenceEvent]:
        started, self._started = self._started, []
        return [
            (
                s,
                ScheduledEvent(
                    choice=s.choice, num_cached_tokens=s.num_cached_tokens, at=s.scheduled_at
                ),
            )
            for s in started
            if s.scheduled_at is not None and not s.num_preemptions
        ]

    def _append(self, result: Sampled, now: float) -> list[SequenceEvent]:
        sequence = result.sequence
        if result.token_id is None:
            error = result.error or Internal(
                "the model computed numbers that are not finite", reason=Reason.MODEL_OUTPUT_INVALID
            )
            return [self._fail(sequence, error, now)]
        if sequence.next_known_id is not None:
            return _replay(sequence, sequence.next_known_id, drawn_id=result.token_id, now=now)
        sequence.generated_ids.append(result.token_id)
        token = TokenEvent(
            choice=sequence.choice,
            token_id=result.token_id,
            logprob=result.logprob,
            top=result.top,
            at=now,
        )
        ended = finish(sequence, is_complete=result.is_complete)
        if ended is None:
            return [(sequence, token)]
        self._end(sequence)
        end = EndEvent(
            choice=sequence.choice, reason=ended.reason, stop_token_id=ended.stop_token_id, at=now
        )
        return [(sequence, token), (sequence, end)]

    def _fail(self, sequence: Sequence, error: LeptonError, now: float) -> SequenceEvent:
        self._end(sequence)
        return sequence, FailedEvent(choice=sequence.choice, error=error, at=now)

    def _end(self, sequence: Sequence) -> None:
        """The only way out: takes back what the sequence holds. A second time is a bug."""
        if sequence.state is SequenceState.FINISHED:
            raise RuntimeError(f"sequence {sequence.id} ended twice")
        if sequence.state is SequenceState.WAITING:
            self._queue.remove(sequence)
        else:
            self._slots.free(sequence)
            self._drafter.forget(sequence)
            sequence.leave_group()
        sequence.state = SequenceState.FINISHED

    def _everybody(self) -> tuple[Sequence, ...]:
        return self._slots.occupants + self._queue.sequences


def _replay(sequence: Sequence, known_id: int, *, drawn_id: int, now: float) -> list[SequenceEvent]:
    """The known token takes the place of the one that was drawn; both are the same where the arithmetic is.

    Who gave up its row has told all of them before.
    """
    sequence.num_replay_mismatches += drawn_id != known_id
    sequence.generated_ids.append(known_id)
    replayed = ReplayedEvent(
        choice=sequence.choice, num_mismatches=sequence.num_replay_mismatches, at=now
    )
    is_new = sequence.next_known_id is None and not sequence.num_preemptions
    return [(sequence, replayed)] if is_new else []
