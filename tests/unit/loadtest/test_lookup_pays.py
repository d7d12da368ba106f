"""On when it pays, off when it does not: what lookup gains where steps cost what they are said to cost."""

from __future__ import annotations

import pytest

from loadtest.lookup.texts import make_texts
from tests.support.fake_runner import FakeRunner
from tests.support.manual_clock import ManualClock
from tests.support.stepped_engine import SteppedEngine
from worker.engine.config import EngineConfig
from worker.engine.ports import Batch
from worker.engine.request import EngineRequest
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import StopRule

STEP_S = 0.004
PROMPT_TOKENS, TOKENS = 200, 400


def seconds(kind: str, streams: int, *, position: float, num_drafted: int) -> float:
    """How long the answers take; each position beyond the first of a step costs `position` of a step of one."""
    texts = make_texts(
        kind, streams, prompt_tokens=PROMPT_TOKENS, tokens=TOKENS, vocab_size=250, seed=7
    )
    answers = {tuple(text.prompt): text.answer for text in texts}

    def step_s(batch: Batch) -> float:
        positions = len(batch.decode) + batch.num_drafted + batch.num_prefill_tokens
        return STEP_S * (1 + position * (positions - 1))

    clock = ManualClock()
    runner = FakeRunner(
        capacity=PROMPT_TOKENS + TOKENS,
        keeps_decoded=True,
        num_drafted=num_drafted,
        tokens=lambda sequence, at: answers[sequence.prompt_ids][at],
        step_s=step_s,
        clock=clock,
    )
    engine = SteppedEngine(runner, EngineConfig(), clock)
    began = clock.now()
    streams_of = [
        engine.submit(
            EngineRequest(
                prompt_ids=tuple(text.prompt),
                sampling=SamplingParams(),
                stop=StopRule(max_tokens=TOKENS),
            )
        )
        for text in texts
    ]
    while not all(stream.has_ended for stream in streams_of):
        engine.step()
    assert not runner.violations
    return clock.now() - began


def gain(kind: str, streams: int, *, position: float) -> float:
    without = seconds(kind, streams, position=position, num_drafted=0)
    return without / seconds(kind, streams, position=position, num_drafted=32)


@pytest.mark.parametrize("position", [0.1, 0.33, 1.0])
@pytest.mark.parametrize("streams", [1, 2, 4])
def test_it_never_costs_much(streams: int, position: float) -> None:
    for kind in ("edit", "summary", "babble"):
        assert gain(kind, streams, position=position) > 0.95, kind


def test_it_gains_most_where_positions_are_cheap_streams_few_and_texts_repeat() -> None:
    gains = [gain("edit", 1, position=position) for position in (0.02, 0.1, 0.33)]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > 3
    assert gains[2] > 1.4
    assert gain("edit", 4, position=0.33) > 1.05
    assert gain("summary", 1, position=0.1) > 1.4
