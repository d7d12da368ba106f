"""What a prompt costs by position, and how the chunks follow."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.engine import make_sequence
from tests.support.fake_runner import FakeRunner
from worker.engine.chunking import CHUNK_TOKENS_MIN
from worker.engine.config import EngineConfig
from worker.engine.ports import Batch
from worker.engine.prefill_cost import PrefillCost
from worker.engine.scheduler import Scheduler
from worker.engine.sequence import StopRule

DECODE_S = 0.005


def seconds_of(batch: Batch, turning: float) -> float:
    """0.2 ms a token at the beginning, twice that at `turning`, and so on."""
    tokens = (at for chunk in batch.prefill for at in range(chunk.start, chunk.end))
    return sum(0.0002 * (1 + at / turning) for at in tokens)


class Engine:
    """Eight streams and a clock; every step takes as long as `duration_s` says."""

    def __init__(self, duration_s: Callable[[Batch], float]) -> None:
        self.runner = FakeRunner(num_slots=10, capacity=9000)
        self.scheduler = Scheduler(EngineConfig(), self.runner.layout)
        self.duration_s = duration_s
        self.now = 0.0
        for number in range(8):
            self.scheduler.add(make_sequence(number, stop=StopRule(max_tokens=5000)))
        for _ in range(10):
            self.step()

    def step(self) -> tuple[Batch, float]:
        batch = self.scheduler.schedule(self.now)
        assert batch is not None
        took = self.duration_s(batch)
        self.now += took
        self.scheduler.observe(batch, took)
        self.scheduler.update(batch, self.runner.run(batch), self.now)
        return batch, took

    def compute(self, number: int, num_tokens: int) -> list[float]:
        """The lengths of all steps until such a prompt is complete."""
        prompt = make_sequence(number, prompt_ids=(number % 256,) * num_tokens, salt=None)
        prompt.arrived_at = self.now
        self.scheduler.add(prompt)
        lengths = []
        while not prompt.generated_ids:
            lengths.append(self.step()[1])
        self.scheduler.abort(prompt, self.now)
        return lengths


@pytest.mark.parametrize("turning", [900, 4000, 1e9])
def test_a_long_prompt_keeps_the_steps_of_others_within_the_bound_to_its_end(
    turning: float,
) -> None:
    """Also the first of its kind: it goes from one band to the next."""
    engine = Engine(lambda batch: DECODE_S * bool(batch.decode) + seconds_of(batch, turning))
    engine.compute(100, 16)
    for number in (101, 102):
        lengths = sorted(engine.compute(number, 4000))
        assert lengths[int(0.99 * len(lengths))] <= 2.05 * DECODE_S
        assert lengths[-1] < 4 * DECODE_S
        # It uses what it may: about half of the time is its own.
        work_s = sum(0.0002 * (1 + at / turning) for at in range(4000))
        assert sum(lengths) < 4 * work_s


def test_the_bound_goes_by_what_decoding_takes_now() -> None:
    """Rows grow beside a prompt, when no step only decodes; and then come others, which are short again."""

    def decode_s(batch: Batch) -> float:
        return 0.004 + 7e-7 * batch.decoding.tokens if batch.decode else 0.0

    engine = Engine(lambda batch: decode_s(batch) + seconds_of(batch, 4000))
    for _ in range(700):
        engine.step()
    for number in (100, 101):
        prompt = make_sequence(number, prompt_ids=(number,) * 4000, salt=None)
        engine.scheduler.add(prompt)
        stretched = []
        while not prompt.generated_ids:
            batch, took = engine.step()
            stretched.append(took / decode_s(batch))
        stretched.sort()
        assert len(stretched) > 100
        assert stretched[int(0.99 * len(stretched))] <= 2.05
        assert stretched[len(stretched) // 4] > 1.7, "it uses what it may"
        for sequence in engine.scheduler._everybody():
            engine.scheduler.abort(sequence, engine.now)
        for row in range(8):
            engine.scheduler.add(
                make_sequence(10 * number + row, salt=None, stop=StopRule(max_tokens=5000))
            )
        for _ in range(5):
            engine.step()


def test_a_prompt_that_costs_too_much_moves_all_the_same() -> None:
    """Even four tokens are far beyond the bound: it is complete in a bounded number of steps."""
    engine = Engine(lambda batch: DECODE_S + 0.1 * batch.num_prefill_tokens)
    lengths = engine.compute(100, 1000)
    assert len(lengths) <= 1000 / CHUNK_TOKENS_MIN + 1
    assert max(lengths[5:]) == pytest.approx(DECODE_S + CHUNK_TOKENS_MIN * 0.1)


def test_decoding_that_is_over_the_aim_leaves_the_time_of_the_least_chunk() -> None:
    """16 tokens at the beginning, fewer further back: a step is longer by the same time."""
    engine = Engine(lambda batch: 0.2 * bool(batch.decode) + 10 * seconds_of(batch, 1000))
    lengths = engine.compute(100, 3000)
    least_s = 16 * 10 * 0.0002
    assert max(lengths[5:]) < 0.2 + 1.5 * least_s
    assert min(lengths[5:-1]) > 0.2 + 0.5 * least_s


def test_what_was_never_measured_is_bounded_by_its_neighbours() -> None:
    cost = PrefillCost()
    assert not cost.is_measured
    cost.observe([(0, 100)], 0.1)
    assert cost.seconds(0, 10) == pytest.approx(0.01)
    assert cost.seconds(300, 310) == pytest.approx(0.02), "the band above"
    assert cost.seconds(2000, 2010) == pytest.approx(0.08)
    cost.observe([(2000, 2010)], 0.03)
    assert cost.seconds(2000, 2010) == pytest.approx(0.03), "measured for the first time"
    assert cost.seconds(600, 610) == pytest.approx(0.03), "not more than further back"
    assert cost.seconds(0, 10) == pytest.approx(0.01)


def test_a_slow_step_is_believed_sooner_than_a_fast_one() -> None:
    slower, faster = PrefillCost(), PrefillCost()
    for cost, duration_s in ((slower, 0.2), (faster, 0.05)):
        cost.observe([(0, 100)], 0.1)
        cost.observe([(0, 100)], duration_s)
    assert slower.seconds(0, 100) == pytest.approx(0.15)
    assert faster.seconds(0, 100) == pytest.approx(0.09)


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 9000), st.integers(1, 700), st.floats(1e-6, 10)), min_size=1
    ),
    start=st.integers(0, 9000),
    seconds=st.floats(-1, 10),
    most=st.integers(0, 700),
)
def test_what_fits_costs_no_more_than_there_is(
    steps: list[tuple[int, int, float]], start: int, seconds: float, most: int
) -> None:
    """Whatever was measured: the most that fits, and one more would not."""
    cost = PrefillCost()
    for at, size, duration_s in steps:
        cost.observe([(at, at + size)], duration_s)
    fits = cost.tokens(start, seconds, most)
    assert 0 <= fits <= most
    if fits:
        assert cost.seconds(start, start + fits) <= seconds * (1 + 1e-9)
    if fits < most:
        assert cost.seconds(start, start + fits + 1) >= seconds * (1 - 1e-9)
