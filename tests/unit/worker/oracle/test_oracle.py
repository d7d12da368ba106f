"""The oracle engine against its pure function."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any

import grpc
import pytest

from common import oracle
from common.errors import Reason
from tests.support.paced_runner import PacedRunner
from tests.support.worker import LocalWorker, worker_of
from worker.oracle.faults import FaultInterceptor
from worker.oracle.open import open_oracle
from worker.oracle.settings import OracleSettings
from worker.settings import WorkerSettings

FAST: dict[str, Any] = {"step_ms": 0.1, "row_us": 0, "prompt_token_us": 0}


@asynccontextmanager
async def oracle_worker(
    *, rows_max: int = 4, chunk_tokens_max: int = 512, **fields: Any
) -> AsyncIterator[LocalWorker]:
    """Its engine waits for its readers, so that each token is a message: misdeeds count messages."""
    settings = WorkerSettings(model_dir="oracle", rows_max=rows_max)  # type: ignore[arg-type]
    made = open_oracle(settings, OracleSettings(**{**FAST, **fields}))
    runner = PacedRunner(made.runner)
    async with worker_of(
        runner,
        model=made.model,
        tokenizer=made.tokenizer,
        grammars=made.grammars,
        interceptors=made.interceptors,
        chunk_tokens_max=chunk_tokens_max,
    ) as worker:
        runner.engine = worker.running.engine
        yield worker


def expected(prompt: str, num: int, **fields: Any) -> list[int]:
    return list(islice(oracle.tokens(oracle.REVISION, oracle.encode(prompt), **fields), num))


async def ask(worker: LocalWorker, prompt: str, num: int = 20, **fields: Any) -> Any:
    return await worker.ask(prompt, stop={"max_tokens": num, "ignore_eos": True}, **fields)


async def test_a_greedy_answer_is_the_pure_function() -> None:
    async with oracle_worker() as worker:
        answer = await ask(worker, "hello")
    answer.check_whole()
    assert answer.started.fingerprint == "oracle"
    assert answer.ids() == expected("hello", 20)
    assert answer.text() == b"".join(map(oracle.text_of, answer.ids())).decode()


async def test_seed_and_choice_count_and_temperature_says_whether() -> None:
    async with oracle_worker() as worker:
        drawn = await ask(worker, "hello", sampling={"temperature": 1, "seed": 7, "n": 3})
        greedy = await ask(worker, "hello", sampling={"seed": 7})
    for choice in range(3):
        assert drawn.ids(choice) == expected("hello", 20, seed=7, choice=choice)
    assert greedy.ids() == expected("hello", 20)


async def test_chunks_prefixes_and_neighbours_change_nothing() -> None:
    prompt = "a beginning that several prompts share, again and again " * 6
    async with oracle_worker(chunk_tokens_max=32) as worker:
        for tail in ("one", "two", "one"):
            answer = await ask(worker, prompt + tail)
            assert answer.ids() == expected(prompt + tail, 20)
        assert answer.finished.usage.cached_tokens > 0
        assert answer.finished.usage.prompt_tokens == len(prompt + tail)


async def test_a_stop_string_ends_where_the_words_say() -> None:
    ids = expected("hello", 20)
    word = oracle.text_of(ids[9]).decode()
    first = next(i for i, each in enumerate(ids) if oracle.text_of(each).decode() == word)
    async with oracle_worker() as worker:
        answer = await worker.ask("hello", stop={"strings": [word], "max_tokens": 50})
    assert answer.text() == b"".join(map(oracle.text_of, ids[:first])).decode()
    assert answer.end().stop_string == word
    assert answer.finished.usage.completion_tokens == first + 1


async def test_logprobs_are_pure_too() -> None:
    async with oracle_worker() as worker:
        answer = await ask(worker, "hello", 5, output={"logprobs": 3})
    state = oracle.root(oracle.REVISION)
    for token_id in oracle.encode("hello"):
        state = oracle.advance(state, token_id)
    for delta in answer.deltas:
        for position in delta.logprobs:
            assert position.chosen.logprob == oracle.logprob(state, position.chosen.token_id)
            assert [(t.token_id, t.logprob) for t in position.top] == oracle.most_likely(state, 3)
            state = oracle.advance(state, position.chosen.token_id)


async def test_another_revision_answers_otherwise() -> None:
    async with oracle_worker(revision="ab" * 32) as worker:
        answer = await ask(worker, "hello")
    assert answer.started.revision == "ab" * 32
    assert answer.ids() != expected("hello", 20)


async def test_constraints_are_refused_by_type() -> None:
    async with oracle_worker() as worker:
        answer = await worker.ask("hello", constraint={"regex": "a+"})
    assert answer.error is not None
    assert answer.error.reason is Reason.CONSTRAINT_UNSUPPORTED


@pytest.mark.parametrize("by_prompt", [True, False])
@pytest.mark.parametrize("kind", ["error", "close", "unfinished", "duplicate", "reorder", "skip"])
async def test_misdeeds(kind: str, by_prompt: bool) -> None:
    told = {} if by_prompt else {"fault": kind, "fault_after": 2}
    prompt = f"[[oracle {kind} 2]]" if by_prompt else "hello"
    async with oracle_worker(**told) as worker:
        seqs: list[int] = []
        code, finished = grpc.StatusCode.OK, False
        from common.rpc.metadata import FINISHED_KEY
        from lepton.v1 import inference_pb2

        request = inference_pb2.GenerateRequest(
            text=prompt, stop={"max_tokens": 8, "ignore_eos": True}
        )
        call = worker.call(request.SerializeToString())
        try:
            async for raw in call:
                seqs += [e.seq for e in inference_pb2.GenerateResponse.FromString(raw).events]
            finished = FINISHED_KEY in dict(await call.trailing_metadata())
        except grpc.aio.AioRpcError as error:
            code = error.code()
    in_order = list(range(len(seqs)))
    match kind:
        case "error":
            assert code is grpc.StatusCode.INTERNAL
            assert not seqs
        case "close":
            assert (code, seqs) == (grpc.StatusCode.UNKNOWN, in_order)
        case "unfinished":
            assert (code, finished, seqs) == (grpc.StatusCode.OK, False, in_order)
            assert seqs
        case "duplicate":
            assert len(set(seqs)) == len(seqs) - 1
        case "reorder":
            assert seqs != in_order
            assert sorted(seqs) == in_order
        case _:
            assert len(set(seqs)) == len(seqs) == max(seqs)
    assert finished is (kind in {"duplicate", "reorder", "skip"})


def test_a_prompt_may_not_invent_a_misdeed() -> None:
    interceptor = FaultInterceptor(OracleSettings())
    assert interceptor._misdeed(b"[[oracle dance]]") is None
    assert interceptor._misdeed(b"hello") is None
    assert interceptor._misdeed(b"..[[oracle abort 3]]..") is not None
