"""Preempted or not: the same tokens, and the same bits of their log-probabilities, with real models."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.grammars import compiled, regex
from tests.support.manual_clock import ManualClock
from tests.support.quantized import in_blocks
from tests.support.stepped_engine import SteppedEngine, alone_on, tokens_of
from tests.support.tiny_models import (
    NEEDS_NATIVE,
    TINY_LLAMA,
    TINY_LLAMA_INT4,
    TINY_QWEN2,
    load_tiny,
)
from worker.engine.config import EngineConfig
from worker.engine.request import EngineRequest
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import Sequence, StopRule
from worker.kernels.library import Kernels
from worker.runtime.grammar.tokens import token_table

CONFIG = EngineConfig(
    chunk_tokens_min=4, chunk_tokens_first=24, chunk_tokens_max=40, preempt_after_s=0
)
LOW, HIGH = 1, 3
SAMPLINGS = (
    SamplingParams(logprobs=0),
    SamplingParams(temperature=0.9, top_p=0.9, seed=11, logprobs=1),
    SamplingParams(temperature=1.3, top_k=30, seed=7, repetition_penalty=1.2, logprobs=0),
    SamplingParams(frequency_penalty=0.8, presence_penalty=0.2, logprobs=0),
)
FORMS: dict[str, Callable[[], tuple[Path, bool, Kernels]]] = {
    "llama-fp32": lambda: (TINY_LLAMA, False, "portable"),
    "llama-int4-prefill-int8": lambda: (TINY_LLAMA_INT4, True, "portable"),
    "qwen2-int4-block128-as-int8": lambda: (in_blocks(TINY_QWEN2, 128), True, "portable"),
    "llama-int4-native": lambda: (TINY_LLAMA_INT4, False, "native"),
    "qwen2-int4-block128-native": lambda: (in_blocks(TINY_QWEN2, 128), False, "native"),
}
"""Model folder, `prefill_int8`, `kernels`."""


@pytest.mark.parametrize("num_mib", [0, 1], ids=["no-prefix-cache", "prefix-cache"])
@pytest.mark.parametrize(
    "form",
    [pytest.param(form, marks=NEEDS_NATIVE if "native" in form else ()) for form in FORMS],
)
def test_preemption_changes_no_token_and_no_bit_of_a_logprob(form: str, num_mib: int) -> None:
    assert differences(form, num_mib) == []


def test_computing_decoded_tokens_as_a_prompt_would_change_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Negative control: ONNX Runtime's operators round a decoded token otherwise than one of a prompt."""
    put_back = Sequence.put_back

    def wrongly(sequence: Sequence, now: float) -> None:
        sequence.known_with_prompt = True
        put_back(sequence, now)

    monkeypatch.setattr(Sequence, "put_back", wrongly)
    assert differences("llama-int4-prefill-int8", 0)


def differences(form: str, num_mib: int) -> list[str]:
    """Requests that got something else than alone, where many of them had to give up their rows."""
    folder, prefill_int8, kernels = FORMS[form]()
    options: dict[str, Any] = {"prefill_int8": prefill_int8, "kernels": kernels}
    model = load_tiny(folder, rows_max=4, prefix_cache_mib=num_mib, **options)
    alone = alone_on(load_tiny(folder, rows_max=1, **options).runner)
    rng = random.Random(5)
    engine = SteppedEngine(model.runner, CONFIG, ManualClock())
    table = token_table(
        model.tokenizer.vocabulary, vocab_size=model.info.vocab_size, eos_ids=frozenset({2, 5, 9})
    )
    assert table is not None

    def ask(priority: int, max_tokens: int) -> EngineRequest:
        bound = rng.random() < 0.25
        return EngineRequest(
            prompt_ids=tuple(rng.randrange(300) for _ in range(rng.choice((1, 3, 17, 33, 70)))),
            sampling=rng.choice(SAMPLINGS),
            stop=StopRule(
                max_tokens=max_tokens, eos_ids=frozenset({2, 5, 9}) if bound else frozenset()
            ),
            grammar=compiled(regex(r"([a-z]{1,8} ?){3,9}[.!]"), table) if bound else None,
            n=rng.choice((1, 1, 2)),
            priority=priority,
        )

    asked, num_preempted = [], 0
    for _ in range(12):
        for request in (ask(LOW, 40), ask(LOW, 60), ask(HIGH, rng.randint(1, 12))):
            asked.append((request, engine.submit(request)))
            for _ in range(rng.randint(0, 12)):
                engine.step()
                num_preempted += sum(
                    s.num_preemptions > 0 for s in engine.loop._scheduler._queue.sequences
                )
    while not engine.is_idle:
        engine.step()
    assert num_preempted, "rows were given up"
    return [
        str(request)
        for request, stream in asked
        if tokens_of(engine.read(stream), request.n) != alone(replace(request, salt=None))
    ]
