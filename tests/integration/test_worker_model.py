"""One worker with real ONNX models over real gRPC: what transformers says is what a client gets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lepton.v1 import inference_pb2, types_pb2
from tests.support.tiny_models import (
    TINY_LLAMA,
    TINY_LLAMA_INT4,
    TINY_OPTIMUM,
    TINY_QWEN2,
    golden_cases,
    load_tiny,
)
from tests.support.worker import Answer, LocalWorker, worker_of
from worker.app import facts_of

Request = inference_pb2.GenerateRequest


@asynccontextmanager
async def serving(folder: Path, **settings: Any) -> AsyncIterator[LocalWorker]:
    loaded = load_tiny(folder)
    async with worker_of(
        loaded.runner, model=facts_of(loaded), tokenizer=loaded.tokenizer, **settings
    ) as worker:
        yield worker


def request_of(case: dict[str, Any]) -> Request:
    """A golden case, to be answered greedily and as far as its answer is known."""
    stop = types_pb2.StopConditions(max_tokens=len(case["greedy_ids"]), ignore_eos=True)
    if "prompt" in case:
        return Request(text=case["prompt"], stop=stop)
    roles = {
        "system": types_pb2.ROLE_SYSTEM,
        "user": types_pb2.ROLE_USER,
        "assistant": types_pb2.ROLE_ASSISTANT,
    }
    return Request(
        chat=types_pb2.ChatInput(
            messages=[
                types_pb2.ChatMessage(role=roles[m["role"]], content=m["content"])
                for m in case["messages"]
            ]
        ),
        stop=stop,
    )


@pytest.mark.parametrize(
    ("folder", "golden"),
    [
        (TINY_LLAMA, "tiny-llama"),
        (TINY_QWEN2, "tiny-qwen2"),
        (TINY_OPTIMUM[0], "tiny-optimum-llama"),
    ],
    ids=["llama", "qwen2", "optimum"],
)
async def test_streams_are_what_transformers_generates_alone_and_all_at_once(
    folder: Path, golden: str
) -> None:
    cases = golden_cases(golden)
    async with serving(folder) as worker:
        alone = [await worker.ask(request_of(case)) for case in cases]
        together = await asyncio.gather(*(worker.ask(request_of(case)) for case in cases * 3))
    tokenizer = load_tiny(folder).tokenizer
    for case, answer in zip(cases * 4, [*alone, *together], strict=True):
        answer.check_whole()
        assert answer.ids() == case["greedy_ids"]
        assert answer.text() == tokenizer.decode(case["greedy_ids"])
        assert answer.finished is not None
        assert answer.finished.usage.prompt_tokens == len(case["prompt_ids"])


@pytest.mark.parametrize("folder", [TINY_LLAMA, TINY_LLAMA_INT4], ids=["fp32", "int4"])
async def test_neighbours_that_come_and_go_change_no_bit(folder: Path) -> None:
    """Ragged prompts, sampling of all kinds, several choices, some cancelled: each is as it was alone."""
    dice = random.Random(5)
    requests = [a_request(dice) for _ in range(16)]
    async with serving(folder, rows_max=6) as worker:
        alone = [await worker.ask(request) for request in requests]
        async with asyncio.TaskGroup() as group:
            tasks = []
            for request in requests:
                tasks.append(group.create_task(worker.ask(request)))
                leaver = worker.call(a_request(dice).SerializeToString())
                await leaver.read()
                leaver.cancel()
        company = [task.result() for task in tasks]
    for before, after in zip(alone, company, strict=True):
        before.check_whole()
        assert shape(before) == shape(after)


def a_request(dice: random.Random) -> Request:
    return Request(
        token_ids=types_pb2.TokenIds(ids=[dice.randrange(300) for _ in range(dice.randint(1, 90))]),
        sampling=types_pb2.SamplingParams(
            temperature=dice.choice([0.0, 0.7, 1.3]),
            top_p=dice.choice([1.0, 0.8]),
            top_k=dice.choice([0, 20]),
            repetition_penalty=dice.choice([1.0, 1.2]),
            presence_penalty=dice.choice([0.0, 0.5]),
            seed=dice.getrandbits(64),
            n=dice.choice([1, 1, 3]),
        ),
        stop=types_pb2.StopConditions(max_tokens=dice.randint(2, 60)),
        output=types_pb2.OutputOptions(logprobs=2),
    )


def shape(answer: Answer) -> list[object]:
    """Everything that must not depend on company: text, ids, log-probabilities to the bit, ends."""
    choices = len(answer.finished.choices) if answer.finished else 0
    return [
        (
            answer.text(choice),
            answer.ids(choice),
            [
                (entry.chosen.logprob, [top.logprob for top in entry.top])
                for delta in answer.deltas
                if delta.index == choice
                for entry in delta.logprobs
            ],
            answer.end(choice).SerializeToString(),
        )
        for choice in range(choices)
    ]


async def test_a_stop_string_inside_an_answer_cuts_it_there() -> None:
    case = golden_cases("tiny-llama")[2]
    text = load_tiny(TINY_LLAMA).tokenizer.decode(case["greedy_ids"])
    stop = text[len(text) // 2 : len(text) // 2 + 3]
    async with serving(TINY_LLAMA) as worker:
        request = request_of(case)
        request.stop.strings.append(stop)
        answer = await worker.ask(request)
    answer.check_whole()
    assert answer.text() == text[: text.index(stop)]
    assert answer.end().stop_string == stop
    num_ids = len(answer.ids())
    assert answer.ids() == case["greedy_ids"][:num_ids]
    assert answer.finished is not None
    assert answer.finished.usage.completion_tokens == num_ids


async def test_control_tokens_in_user_text_stay_text() -> None:
    control = load_tiny(TINY_LLAMA).tokenizer.control_ids
    assert control
    names = [load_tiny(TINY_LLAMA).tokenizer.token_bytes(i).decode() for i in sorted(control)]
    async with serving(TINY_LLAMA) as worker:
        plain = await tokenize(worker, inference_pb2.TokenizeRequest(text="".join(names)))
        assert control.isdisjoint(plain[1:])

        def chat(content: str) -> inference_pb2.TokenizeRequest:
            message = types_pb2.ChatMessage(role=types_pb2.ROLE_USER, content=content)
            return inference_pb2.TokenizeRequest(chat=types_pb2.ChatInput(messages=[message]))

        harmless = await tokenize(worker, chat("hello"))
        attack = await tokenize(worker, chat("hello" + "".join(names)))
        assert [i for i in attack if i in control] == [i for i in harmless if i in control]


async def tokenize(worker: LocalWorker, request: inference_pb2.TokenizeRequest) -> list[int]:
    call = worker.channel.unary_unary("/lepton.v1.InferenceService/Tokenize")
    raw = await call(request.SerializeToString())
    return list(inference_pb2.TokenizeResponse.FromString(raw).token_ids)


async def test_the_context_is_used_to_its_last_token() -> None:
    async with serving(TINY_LLAMA) as worker:
        ids = types_pb2.TokenIds(ids=[5] * 250)
        stop = types_pb2.StopConditions(ignore_eos=True)
        answer = await worker.ask(Request(token_ids=ids, stop=stop))
        answer.check_whole()
        assert len(answer.ids()) == 6
        assert answer.end().reason == types_pb2.FINISH_REASON_LENGTH
