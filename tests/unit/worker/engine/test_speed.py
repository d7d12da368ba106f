"""What the engine learns from the length of its steps, and how the chunks follow."""

from __future__ import annotations

import pytest

from tests.support.engine import make_sequence
from tests.support.fake_runner import FakeRunner
from worker.engine.chunking import CHUNK_TOKENS_MIN
from worker.engine.config import EngineConfig
from worker.engine.decode_cost import Decoding
from worker.engine.ports import Batch
from worker.engine.scheduler import Scheduler
from worker.engine.sequence import StopRule
from worker.engine.speed import SpeedMeter


def observe(meter: SpeedMeter, duration_s: float, *, prefill: int = 0, rows: int = 0) -> None:
    meter.observe(
        duration_s=duration_s, num_prefill_tokens=prefill, decoding=Decoding(rows), num_starts=0
    )


def test_nothing_is_known_at_first() -> None:
    meter = SpeedMeter()
    assert meter.speed.prefill_tokens_per_s is None
    assert meter.step_s(num_prefill_tokens=1, decoding=Decoding(0)) is None
    assert meter.step_s(num_prefill_tokens=0, decoding=Decoding(1)) is None


def test_a_mixed_step_teaches_what_it_took_beyond_decoding() -> None:
    meter = SpeedMeter()
    observe(meter, 0.04, rows=8)
    observe(meter, 0.10, rows=8, prefill=60)
    assert meter.speed.prefill_tokens_per_s == pytest.approx(1000)
    assert meter.step_s(num_prefill_tokens=20, decoding=Decoding(8)) == pytest.approx(0.06)
    assert meter.prefill_share_s(0.10, Decoding(8)) == pytest.approx(0.06)


def test_an_unknown_number_of_rows_is_taken_for_the_nearest_known() -> None:
    meter = SpeedMeter()
    observe(meter, 0.01, rows=1)
    observe(meter, 0.05, rows=16)
    assert meter.decode_s(Decoding(3)) == 0.01
    assert meter.decode_s(Decoding(12)) == 0.05
    assert meter.decode_s(Decoding(0)) == 0


def test_a_clock_that_stands_still_teaches_nothing() -> None:
    meter = SpeedMeter()
    observe(meter, 0.0, prefill=100)
    observe(meter, 1e-300, prefill=100)
    assert meter.speed.prefill_tokens_per_s is None


def test_the_recent_past_counts_more() -> None:
    meter = SpeedMeter()
    for _ in range(50):
        observe(meter, 1.0, prefill=1000)
    for _ in range(50):
        observe(meter, 1.0, prefill=100)
    assert meter.speed.prefill_tokens_per_s == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize("tokens_per_s", [300.0, 3000.0, 1e6, 10.0])
def test_chunks_settle_where_a_step_takes_step_ms_max(tokens_per_s: float) -> None:
    """Prompts take 1 / `tokens_per_s` a token, decoding 20 ms; chunks find their size, within the bounds."""
    config = EngineConfig(step_ms_max=100)
    runner = FakeRunner(num_slots=2, capacity=30_000)
    scheduler = Scheduler(config, runner.layout)

    def duration_s(batch: Batch) -> float:
        return batch.num_prefill_tokens / tokens_per_s + (0.02 if batch.decode else 0)

    scheduler.add(make_sequence(1, stop=StopRule(max_tokens=1000)))
    scheduler.add(make_sequence(2, prompt_ids=(5,) * 21_000))
    chunks: list[int] = []
    for step in range(40):
        batch = scheduler.schedule(float(step))
        assert batch is not None
        chunks.append(batch.num_prefill_tokens)
        scheduler.observe(batch, duration_s(batch))
        scheduler.update(batch, runner.run(batch), float(step))
    assert config.chunk_tokens_first - 2 < chunks[0] <= config.chunk_tokens_first
    ideal = min(max(0.08 * tokens_per_s, CHUNK_TOKENS_MIN), config.chunk_tokens_max)
    assert chunks[-1] == pytest.approx(ideal, rel=0.1, abs=2)


def test_a_long_prompt_stretches_the_steps_of_others_until_somebody_waits() -> None:
    """Decoding takes 20 ms, prompts 1 ms a token: twice 20 ms leave room for 20 tokens, 100 ms for 80."""
    config = EngineConfig(step_ms_max=100, chunk_stretch=2, chunk_patience_s=0.5)
    runner = FakeRunner(num_slots=16, capacity=30_000)
    scheduler, now = Scheduler(config, runner.layout), 0.0

    def settle(steps: int) -> int:
        """The prompt tokens of the last of so many steps."""
        nonlocal now
        for _ in range(steps):
            batch = scheduler.schedule(now)
            assert batch is not None
            duration_s = batch.num_prefill_tokens / 1000 + (0.02 if batch.decode else 0)
            now += duration_s
            scheduler.observe(batch, duration_s)
            scheduler.update(batch, runner.run(batch), now)
        return batch.num_prefill_tokens

    def wait(number: int) -> None:
        waiting = make_sequence(number, prompt_ids=(6,) * 100)
        waiting.arrived_at = now
        scheduler.add(waiting)

    for number in range(8):
        scheduler.add(make_sequence(number, stop=StopRule(max_tokens=1000)))
    assert settle(10) == 0
    scheduler.add(make_sequence(8, prompt_ids=(5,) * 21_000))
    assert settle(40) == pytest.approx(20, abs=2)
    wait(9)
    assert settle(2) == pytest.approx(20, abs=2), (
        "one among eight streams, and it has not waited long"
    )
    for number in range(10, 14):
        wait(number)
    assert settle(3) == pytest.approx(80, abs=4), "many wait"
    for sequence in [s for s in scheduler._everybody() if s.id > 9]:
        scheduler.abort(sequence, now)
    assert settle(2) < 60
    assert settle(80) == pytest.approx(80, abs=4), "it has waited for long"


def test_where_decoding_alone_takes_too_long_more_of_a_prompt_is_taken_when_others_wait() -> None:
    """Decoding takes 200 ms, twice the aim: 16 tokens a step, until somebody has waited for ten times the patience."""
    config = EngineConfig(step_ms_max=100, chunk_patience_s=0.5)
    runner = FakeRunner(num_slots=16, capacity=30_000)
    scheduler, now = Scheduler(config, runner.layout), 0.0
    for number in range(8):
        scheduler.add(make_sequence(number, stop=StopRule(max_tokens=1000)))
    chunks = []
    for step in range(40):
        if step == 10:
            scheduler.add(make_sequence(8, prompt_ids=(5,) * 21_000))
        if step == 15:
            waiting = make_sequence(9, prompt_ids=(6,) * 100)
            waiting.arrived_at = now
            scheduler.add(waiting)
        batch = scheduler.schedule(now)
        assert batch is not None
        chunks.append(batch.num_prefill_tokens)
        duration_s = 0.2 + batch.num_prefill_tokens / 1000
        now += duration_s
        scheduler.observe(batch, duration_s)
        scheduler.update(batch, runner.run(batch), now)
    assert chunks[14] == 16
    assert 100 < chunks[39] <= 512


def test_what_outsiders_may_know() -> None:
    meter = SpeedMeter()
    assert (meter.speed.step_s, meter.speed.decode_tokens_per_s, meter.speed.decode_rows) == (
        None,
        None,
        0,
    )
    observe(meter, 0.05, rows=4)
    observe(meter, 0.05, rows=4)
    speed = meter.speed
    assert speed.step_s == pytest.approx(0.05)
    assert (speed.decode_tokens_per_s, speed.decode_rows) == (pytest.approx(20), 4)
    observe(meter, 0.15, rows=4, prefill=50)
    assert meter.speed.step_s == pytest.approx(0.08), "every kind of step counts"
    assert meter.speed.decode_tokens_per_s == pytest.approx(20), "prompts beside it do not"
    observe(meter, 0.02, rows=1)
    assert (meter.speed.decode_tokens_per_s, meter.speed.decode_rows) == (pytest.approx(50), 1)
