"""The demo model that we ship, against what transformers answers from its unquantised weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from common.clock import SystemClock
from tests.support.tiny_models import GOLDENS, Message
from worker.engine.config import EngineConfig
from worker.engine.golden import ask
from worker.engine.loop import EngineLoop
from worker.engine.request import EngineRequest
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import StopRule
from worker.runtime.model import LoadedModel, load_model
from worker.runtime.self_check import ANSWER_TOKENS_MAX, generate_greedy

DEMO = Path(__file__).resolve().parents[4] / "models" / "demo"
CASES = json.loads((GOLDENS / "demo.json").read_text("utf-8"))["cases"]
REMAKE = "after a new export: python -m training.goldens.make demo"


@pytest.fixture(scope="module")
def demo() -> LoadedModel:
    """Loading also answers its golden prompt."""
    said: list[str] = []
    model = load_model(
        DEMO, name="demo", threads=1, progress=lambda event, fields: said.append(event)
    )
    assert said[-1] == "model.golden"
    return model


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["messages"][-1]["content"][:20])
def test_chats_become_the_same_ids(demo: LoadedModel, case: dict[str, object]) -> None:
    messages = [Message(**message) for message in case["messages"]]  # type: ignore[attr-defined]
    ids = demo.tokenizer.encode_chat(messages, add_generation_prompt=True)
    assert ids == case["prompt_ids"], REMAKE


def test_int4_answers_like_fp32(demo: LoadedModel) -> None:
    """Quantised weights may turn a close call, so one answer may differ."""
    same = []
    for case in CASES:
        answer = generate_greedy(
            demo.runner, case["prompt_ids"], max_tokens=48, eos_ids=demo.info.eos_ids
        )
        same.append(demo.tokenizer.decode(answer) == case["text"])
    assert sum(same) >= len(CASES) - 1, REMAKE


async def test_probes_ask_the_golden_prompt_of_a_busy_engine(demo: LoadedModel) -> None:
    """What is expected does not hang on the company."""
    assert len(demo.question.answer_ids) == ANSWER_TOKENS_MAX, "the demo model is sure of itself"
    clock = SystemClock()
    engine = EngineLoop(demo.runner, EngineConfig(), clock)
    engine.start()
    company = engine.submit(
        EngineRequest(
            prompt_ids=tuple(CASES[0]["prompt_ids"]),
            sampling=SamplingParams(temperature=1.0, seed=3),
            stop=StopRule(max_tokens=60),
            n=3,
        )
    )
    await company.next()
    assert await ask(engine, demo.question, deadline=clock.now() + 30)
    other = replace(demo.question, answer_ids=demo.question.answer_ids[::-1])
    assert not await ask(engine, other, deadline=clock.now() + 30)
    engine.abort(company)
    await engine.stop()
