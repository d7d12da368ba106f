"""The scheduler with a strict fake runner: whatever comes, goes, fails or is late, the books balance.

`FakeRunner` checks the layout of each batch, the contents of each row that each token is computed once, in order.
"""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from common.errors import Cancelled, DeadlineExceeded, Internal, Overloaded, Reason
from tests.support.engine import make_sequence
from tests.support.fake_runner import FakeRunner, fake_completion
from worker.engine.answers import check_answer
from worker.engine.chunking import chunk_sizes
from worker.engine.config import EngineConfig
from worker.engine.events import (
    EndEvent,
    Event,
    FailedEvent,
    ReplayedEvent,
    ScheduledEvent,
    TokenEvent,
)
from worker.engine.ports import Batch
from worker.engine.prefix import BLOCK_TOKENS
from worker.engine.scheduler import Scheduler, SequenceEvent
from worker.engine.sequence import FinishReason, Sequence, SequenceState, StopRule

CAPACITY = 130
CONFIG = EngineConfig(
    chunk_tokens_min=4,
    chunk_tokens_first=8,
    chunk_tokens_max=16,
    overtaken_max=2,
    step_ms_max=10,
    preemptions_max=2,
    preempt_after_s=1,
)


class SchedulerMachine(RuleBasedStateMachine):
    @initialize(
        num_slots=st.integers(1, 4),
        num_blocks=st.sampled_from([0, 1, 2, 3, 8, 40]),
        tokens_max=st.none() | st.integers(CAPACITY, 2 * CAPACITY),
    )
    def begin(self, num_slots: int, num_blocks: int, tokens_max: int | None) -> None:
        self.runner = FakeRunner(
            num_slots=num_slots,
            capacity=CAPACITY,
            tokens_max=tokens_max,
            num_blocks=num_blocks,
            keeps_decoded=num_blocks % 2 == 1,
        )
        self.scheduler = Scheduler(CONFIG, self.runner.layout)
        self.now = 0.0
        self.events: dict[Sequence, list[Event]] = {}
        self.known: dict[Sequence, tuple[int, ...]] = {}
        self.aborted: set[Sequence] = set()
        self.num_slots = num_slots

    @rule(
        num_prompt_tokens=st.integers(1, 40) | st.sampled_from([31, 33, 34, 64, 65, 66, 97, 100]),
        beginning=st.none() | st.integers(0, 2),
        salt=st.sampled_from([b"", b"", b"a", None]),
        max_tokens=st.integers(1, 8),
        priority=st.integers(1, 3),
        patience=st.none() | st.integers(0, 30),
        start_within=st.none() | st.integers(0, 5),
        stop_ids=st.sampled_from([frozenset(), frozenset(range(0, 256, 3))]),
        seed=st.integers(0, 3),
        n=st.sampled_from([1, 1, 1, 2, 3, 5]),
        known=st.none() | st.lists(st.integers(0, 7), min_size=5, max_size=5),
    )
    def add(
        self,
        num_prompt_tokens: int,
        beginning: int | None,
        salt: bytes | None,
        max_tokens: int,
        priority: int,
        patience: int | None,
        start_within: int | None,
        stop_ids: frozenset[int],
        seed: int,
        n: int,
        known: list[int] | None,
    ) -> None:
        """Some prompts begin alike; where they part, they part for good. Some are completed several times, some were
        begun elsewhere, each choice as far as it came.
        """
        number = len(self.events)
        shared = 0 if beginning is None else num_prompt_tokens * 3 // 4
        prompt = tuple(
            (1000 * (beginning or 0) + i if i < shared else 7 * number + i) % 256
            for i in range(num_prompt_tokens)
        )
        for choice in range(n):
            known_ids = None
            if known is not None:
                num_known = min(known[choice], max_tokens - 1)
                ids = fake_completion(prompt, choice=choice, num_tokens=num_known, seed=seed)
                ends = [at for at, token_id in enumerate(ids) if token_id in stop_ids]
                known_ids = tuple(ids[: min(ends, default=num_known)])
            sequence = make_sequence(
                number + choice,
                group=number,
                choice=choice,
                prompt_ids=prompt,
                salt=salt,
                seed=seed,
                stop=StopRule(max_tokens=max_tokens, stop_ids=stop_ids),
                priority=priority,
                deadline=None if patience is None else self.now + patience,
                start_by=None if choice or start_within is None else self.now + start_within,
                known_ids=known_ids,
                known_with_prompt=self.runner.layout.keeps_decoded,
            )
            self.events[sequence] = []
            self.known[sequence] = sequence.known_ids
            self.scheduler.add(sequence)

    @rule(duration_s=st.floats(0, 0.1), outcome=st.sampled_from(["ok"] * 8 + ["raise", "poison"]))
    def step(self, duration_s: float, outcome: str) -> None:
        self.now += 1
        self.record(self.scheduler.expire(self.now))
        batch = self.scheduler.schedule(self.now)
        for sequence in self.scheduler.take_preempted():
            assert sequence.num_preemptions <= CONFIG.preemptions_max
            self.runner.release(sequence)
        self.record(self.scheduler.refuse_late(self.now))
        if batch is None:
            assert self.scheduler.is_idle
            return
        self.check_budget(batch)
        begun = (s for c in batch.prefill for s in (c.sequence, *c.sequence.followers))
        concerned = {*batch.decode, *begun}
        self.runner.breaks = lambda s: outcome == "poison" and s.id % 2 == 0
        if outcome == "raise":
            self.runner.fail_next(RuntimeError("scripted"))
        try:
            sampled = self.runner.run(batch)
        except RuntimeError:
            events = self.scheduler.fail(self.now)
        else:
            check_answer(batch, sampled)
            self.scheduler.observe(batch, duration_s)
            events = self.scheduler.update(batch, sampled, self.now)
        for sequence, event in events:
            if isinstance(event, FailedEvent):
                assert isinstance(event.error, Internal)
                expected = (
                    Reason.ENGINE_FAILED if outcome == "raise" else Reason.MODEL_OUTPUT_INVALID
                )
                assert event.error.reason is expected
            assert sequence in concerned
        self.record(events)

    @precondition(lambda self: getattr(self, "events", None))
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        """Of anybody at any time, also of one that has ended."""
        sequence = data.draw(st.sampled_from(list(self.events)))
        events = self.scheduler.abort(sequence, self.now)
        assert bool(events) == (not ended(self.events[sequence]))
        assert all(isinstance(e, FailedEvent) and isinstance(e.error, Cancelled) for _, e in events)
        self.aborted.add(sequence)
        self.record(events)

    @invariant()
    def books_agree(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        self.scheduler.check_integrity()
        assert not self.runner.violations
        assert self.scheduler.num_running <= self.num_slots
        assert 0 <= self.scheduler.kv_usage <= 1
        num_open = sum(not ended(events) for events in self.events.values())
        assert num_open == self.scheduler.num_running + self.scheduler.waiting.sequences

    def teardown(self) -> None:
        """Left alone, everybody comes to an end within a bounded number of steps."""
        if not hasattr(self, "scheduler"):
            return
        # A step moves the first prompt by at least 2 tokens and every running row by one; who gave up its row begins
        # anew.
        num_steps_max = (1 + CONFIG.preemptions_max) * sum(
            s.num_prefill_tokens + s.stop.max_tokens + 1 for s in self.events
        )
        for _ in range(num_steps_max):
            self.step(0.001, "ok")
        assert self.scheduler.is_idle
        for sequence, events in self.events.items():
            self.check_story(sequence, events)

    def record(self, events: list[SequenceEvent]) -> None:
        for sequence, event in events:
            assert not ended(self.events[sequence]), "nothing follows a terminal event"
            assert event.choice == sequence.choice
            self.events[sequence].append(event)

    def check_budget(self, batch: Batch) -> None:
        assert 0 <= batch.num_prefill_tokens <= CONFIG.chunk_tokens_max
        assert len(batch.decode) + len({c.sequence for c in batch.prefill}) <= self.num_slots
        begun = {chunk.sequence for chunk in batch.prefill}
        unfinished = begun - set(batch.drawing)
        assert len(unfinished) <= 1, "what is begun is finished first"
        assert not unfinished or batch.prefill[-1].sequence in unfinished

    def check_story(self, sequence: Sequence, events: list[Event]) -> None:
        """Scheduled, tokens as alone, one end with the right reason."""
        assert sequence.state is SequenceState.FINISHED
        assert sequence.slot is None
        assert (sequence.leader, sequence.followers) == (None, [])
        assert sequence.num_cached_tokens % BLOCK_TOKENS == 0
        assert sequence.num_cached_tokens <= max(0, sequence.num_prefill_tokens - 2)
        assert not sequence.num_cached_tokens or sequence.salt is not None
        assert sum(isinstance(e, EndEvent | FailedEvent) for e in events) == 1
        tokens = [e.token_id for e in events if isinstance(e, TokenEvent)]
        replayed = [e for e in events if isinstance(e, ReplayedEvent)]
        assert all(e.num_mismatches == 0 for e in replayed)
        if tokens:
            redraws = bool(self.known[sequence]) and not sequence.known_with_prompt
            assert len(replayed) == redraws
        alone = fake_completion(
            sequence.prompt_ids,
            choice=sequence.choice,
            num_tokens=sequence.stop.max_tokens,
            seed=sequence.sampling.seed,
        )[len(self.known[sequence]) :]
        assert tokens == alone[: len(tokens)]
        assert sum(isinstance(e, ScheduledEvent) for e in events) <= 1
        if tokens:
            assert isinstance(events[0], ScheduledEvent)
        match events[-1]:
            case EndEvent(reason=FinishReason.LENGTH):
                assert tokens == alone
            case EndEvent() as end:
                assert end.stop_token_id == tokens[-1]
                assert tokens[-1] in sequence.stop.stop_ids
            case FailedEvent(error=Overloaded()):
                assert not tokens
                assert sequence.start_by is not None
                assert sequence.start_by <= events[-1].at
            case FailedEvent(error=DeadlineExceeded()):
                assert sequence.deadline is not None
                assert sequence.deadline <= events[-1].at
            case FailedEvent(error=Cancelled()):
                assert sequence in self.aborted


def ended(events: list[Event]) -> bool:
    return bool(events) and isinstance(events[-1], EndEvent | FailedEvent)


TestScheduler = SchedulerMachine.TestCase


@given(prompt=st.integers(1, 3000), budgets=st.lists(st.integers(4, 700), min_size=1))
@example(prompt=33, budgets=[512])
@example(prompt=33, budgets=[4])
def test_no_cut_leaves_a_row_alone(prompt: int, budgets: list[int]) -> None:
    """Whatever the budgets: a prompt always moves, only its end may be odd, no run leaves one row alone in a block."""
    remaining, step = prompt, 0
    while remaining:
        budget = budgets[step % len(budgets)]
        sizes = chunk_sizes(remaining, budget)
        step += 1
        assert 0 < sum(sizes) <= budget
        for size in sizes:
            remaining -= size
            assert size > 1 or prompt == 1
            assert size % 16 != 1 or prompt == 1
            assert size % 2 == 0 or remaining == 0
