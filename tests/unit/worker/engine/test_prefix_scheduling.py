"""Prompts that begin alike: what is loaded, what is computed, and what never is shared."""

from __future__ import annotations

from tests.support.engine import make_sequence
from tests.support.fake_runner import FakeRunner
from worker.engine.config import EngineConfig
from worker.engine.events import ScheduledEvent
from worker.engine.ports import Batch
from worker.engine.prefix import BLOCK_TOKENS
from worker.engine.scheduler import Scheduler
from worker.engine.sequence import Sequence, StopRule

SHARED = tuple(range(100))
CONFIG = EngineConfig(chunk_tokens_max=512, chunk_tokens_first=512)


class Engine:
    """A scheduler and the strict fake runner, step by step."""

    def __init__(
        self, *, num_slots: int = 4, num_blocks: int = 16, keeps_decoded: bool = False
    ) -> None:
        self.runner = FakeRunner(
            num_slots=num_slots,
            capacity=200,
            num_blocks=num_blocks,
            keeps_decoded=keeps_decoded,
        )
        self.scheduler = Scheduler(CONFIG, self.runner.layout)
        self.ids = iter(range(1000))
        self.told: dict[Sequence, int] = {}

    def add(
        self,
        prompt: tuple[int, ...],
        *,
        salt: bytes | None = b"",
        group: int | None = None,
        choice: int = 0,
        max_tokens: int = 1,
    ) -> Sequence:
        sequence = make_sequence(
            next(self.ids),
            prompt_ids=prompt,
            salt=salt,
            group=group,
            choice=choice,
            stop=StopRule(max_tokens=max_tokens),
        )
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> Batch:
        batch = self.scheduler.schedule(0.0)
        assert batch is not None
        for sequence, event in self.scheduler.update(batch, self.runner.run(batch), 0.0):
            if isinstance(event, ScheduledEvent):
                self.told[sequence] = event.num_cached_tokens
        self.scheduler.check_integrity()
        return batch

    def complete(self, *args: object, **options: object) -> Sequence:
        sequence = self.add(*args, **options)  # type: ignore[arg-type]
        while not self.scheduler.is_idle:
            self.step()
        return sequence


def test_the_second_prompt_computes_only_its_own_end() -> None:
    engine = Engine()
    assert engine.told[engine.complete((*SHARED, 200))] == 0
    second = engine.add((*SHARED, 201, 202))
    batch = engine.step()
    assert engine.told[second] == 96 == second.num_cached_tokens
    assert [(chunk.start, chunk.end) for chunk in batch.prefill] == [(96, 102)]
    assert batch.num_prefill_tokens == 6


def test_a_chat_goes_on_where_its_prompt_ended() -> None:
    """The answer was decoded, so it is computed again; the question before it is not."""
    engine = Engine()
    first = engine.complete(SHARED, max_tokens=5)
    again = engine.complete((*SHARED, *first.generated_ids, *range(40)))
    assert engine.told[again] == 96


def test_a_chat_goes_on_where_its_answer_ended_if_decoded_tokens_are_as_good() -> None:
    engine = Engine(keeps_decoded=True)
    first = engine.complete(SHARED, max_tokens=70)
    assert engine.told[engine.complete((*SHARED, *first.generated_ids, 7, 8))] == 160
    # Every choice of a request goes on from its own answer.
    group = [engine.add(SHARED[:50], group=77, choice=choice, max_tokens=40) for choice in range(2)]
    while not engine.scheduler.is_idle:
        engine.step()
    for sequence in group:
        assert engine.told[engine.complete((*SHARED[:50], *sequence.generated_ids))] == 64
    hidden = engine.complete(SHARED[:40], salt=None, max_tokens=40)
    assert engine.told[engine.complete((*SHARED[:40], *hidden.generated_ids))] == 32


def test_an_equal_prompt_computes_two_tokens_at_least() -> None:
    engine = Engine()
    prompt = tuple(range(2 * BLOCK_TOKENS))
    engine.complete(prompt)
    assert engine.told[engine.complete(prompt)] == BLOCK_TOKENS


def test_another_salt_and_none_share_nothing() -> None:
    engine = Engine()
    engine.complete(SHARED, salt=b"a")
    assert engine.told[engine.complete(SHARED, salt=b"b")] == 0
    assert engine.told[engine.complete(SHARED, salt=None)] == 0
    assert engine.told[engine.complete(SHARED, salt=b"a")] == 96


def test_who_bypasses_leaves_nothing_behind() -> None:
    engine = Engine()
    engine.complete(SHARED, salt=None)
    assert engine.told[engine.complete(SHARED)] == 0


def test_who_shares_with_a_prompt_of_this_step_begins_in_the_next() -> None:
    engine = Engine()
    first, second, third = (engine.add((*SHARED, end)) for end in (1, 2, 3))
    batch = engine.step()
    assert engine.told == {first: 0}
    assert [len(chunk.saves) for chunk in batch.prefill] == [3]
    batch = engine.step()
    assert engine.told == {first: 0, second: 96, third: 96}
    assert [(chunk.start, chunk.end) for chunk in batch.prefill] == [(96, 101), (96, 101)]


def test_who_shares_nothing_more_begins_beside_the_others() -> None:
    engine = Engine(num_slots=5)
    engine.complete(SHARED)
    prompts = ((*SHARED, *range(200, 230)), (*SHARED, *range(300, 330)), tuple(range(400, 450)))
    sequences = [engine.add(prompt) for prompt in prompts]
    hidden = engine.add(prompts[2], salt=None)
    engine.step()
    told = [engine.told[sequence] for sequence in (*sequences, hidden)]
    assert told == [96, 96, 0, 0]


def test_who_will_not_wait_begins_at_once_and_a_shared_block_is_saved_once() -> None:
    engine = Engine()
    first, second = engine.add((*SHARED, 1)), engine.add((*SHARED, 2))
    second.start_by = 0.0
    batch = engine.step()
    assert engine.told == {first: 0, second: 0}
    assert [len(chunk.saves) for chunk in batch.prefill] == [3, 0]


def test_nobody_waits_for_what_a_failed_step_did_not_leave() -> None:
    engine = Engine()
    engine.add((*SHARED, 1))
    second = engine.add((*SHARED, 2))
    assert engine.scheduler.schedule(0.0) is not None
    engine.scheduler.fail(0.0)
    engine.step()
    assert engine.told[second] == 0


def test_without_blocks_nothing_is_kept() -> None:
    engine = Engine(num_blocks=0)
    engine.complete(SHARED)
    again = engine.add(SHARED)
    batch = engine.step()
    assert (engine.told[again], batch.loads) == (0, ())


def test_a_full_cache_makes_room() -> None:
    engine = Engine(num_blocks=3)
    engine.complete(SHARED)
    engine.complete(tuple(range(500, 564)))
    # Two blocks had to go, and of a chain its end goes first.
    assert engine.told[engine.complete(SHARED)] == BLOCK_TOKENS


def test_a_prompt_longer_than_the_cache_keeps_its_beginning() -> None:
    engine = Engine(num_blocks=2)
    engine.complete(SHARED)
    assert engine.told[engine.complete(SHARED)] == 2 * BLOCK_TOKENS


def test_a_failed_step_keeps_nothing_of_what_it_computed() -> None:
    engine = Engine()
    engine.add(SHARED)
    engine.scheduler.schedule(0.0)
    engine.scheduler.fail(0.0)
    engine.scheduler.check_integrity()
    assert engine.told[engine.complete(SHARED)] == 0


def test_an_aborted_prompt_leaves_what_it_had_computed() -> None:
    engine = Engine()
    long = engine.add(tuple(range(150)), max_tokens=50)
    engine.step()
    engine.scheduler.abort(long, 0.0)
    assert engine.told[engine.complete((*range(150), 7))] == 4 * BLOCK_TOKENS


def test_choices_of_one_request_compute_their_prompt_once() -> None:
    engine = Engine()
    choices = [engine.add(SHARED, group=7, choice=choice, max_tokens=3) for choice in range(3)]
    batch = engine.step()
    assert batch.num_prefill_tokens == 100
    assert batch.drawing == tuple(choices)
    assert engine.step().decode == tuple(choices)


def test_choices_that_find_no_slot_come_later() -> None:
    engine = Engine(num_slots=2)
    first, second, third = (
        engine.add(SHARED, group=7, choice=choice, max_tokens=2) for choice in range(3)
    )
    assert engine.step().drawing == (first, second)
    while third.scheduled_at is None:
        engine.step()
    assert engine.told[third] == 96


def test_when_the_computing_choice_leaves_the_next_one_takes_over() -> None:
    engine = Engine()
    engine.scheduler = Scheduler(
        EngineConfig(chunk_tokens_max=40, chunk_tokens_first=40), engine.runner.layout
    )
    first, second, third = (
        engine.add(SHARED, group=7, choice=choice, max_tokens=2) for choice in range(3)
    )
    engine.step()
    engine.scheduler.abort(first, 0.0)
    (chunk,) = engine.step().prefill
    assert (chunk.sequence, chunk.start) == (second, 0)
    while third.num_computed_tokens < 100:
        engine.step()
    assert first.generated_ids == []
    assert [len(s.generated_ids) for s in (second, third)] == [1, 1]
