"""Streams that survive their workers: what the client gets is one whole answer, whatever happened behind the router.

Each fault has its negative control: with `migrations_max=0` the same stream fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from common.errors import (
    Internal,
    InvalidRequest,
    LeptonError,
    Overloaded,
    Reason,
    Unavailable,
    Unsupported,
)
from lepton.v1 import inference_pb2, types_pb2
from router.core.endpoint import EndpointState
from tests.support.fake_worker import FakeWorker, Script
from tests.support.patience import PATIENCE_S
from tests.support.small_cluster import Answer, SmallCluster, small_cluster, until
from tests.support.story import Told, story_of

TOKENS = 12
WHOLE = Script(story=TOKENS)
OTHER_REVISION = "bbbbbbbb00000000"

DIES = Script(story=TOKENS, stops_after=5, dies=True)
HANGS = Script(story=TOKENS, stops_after=5, hang=True)
ENDS_TOO_SOON = Script(story=TOKENS, stops_after=5, finished=False)
ENGINE_FAILS = Script(
    story=TOKENS, stops_after=5, error=Internal("a step failed", reason=Reason.ENGINE_FAILED)
)
DRAINS = Script(story=TOKENS, stops_after=5, error=Unavailable("bye", reason=Reason.DRAINING))


@asynccontextmanager
async def a_stream_on(
    first: FakeWorker, *others: FakeWorker, ask: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[tuple[SmallCluster, asyncio.Task[Answer]]]:
    """A call that runs on `first`, which is alone until it has the call."""
    settings = {"death_verdict_s": 0.3, **settings}
    first.gate = gate = asyncio.Event()
    async with small_cluster(first, **settings) as cluster, asyncio.TaskGroup() as group:
        answer = group.create_task(cluster.ask(**(ask or {})))
        await until(lambda: len(first.calls) == 1)
        for other in others:
            await cluster.add(other)
        gate.set()
        try:
            async with asyncio.timeout(PATIENCE_S):
                yield cluster, answer
                await answer
        finally:
            for other in others:
                await other.stop()


def told(answer: Answer) -> Told:
    assert answer.error is None, answer.error
    return Told.of(answer.messages)


@pytest.mark.parametrize("fault", [DIES, ENDS_TOO_SOON, ENGINE_FAILS, DRAINS])
async def test_stream_goes_on_with_another_worker(fault: Script) -> None:
    first, second = FakeWorker("w1", script=fault), FakeWorker("w2", script=WHOLE)
    async with a_stream_on(first, second) as (cluster, answer):
        story = told(await answer)
        story.check(TOKENS)
        assert story.workers == ["w1", "w2"]
        (seen,) = second.calls
        request = inference_pb2.GenerateRequest.FromString(seen.payload)
        assert request.text == "hello"
        assert request.revision == first.revision
        assert request.continuation.attempt == 1
        assert request.continuation.from_worker_id == "w1"
        assert cluster.router.dispatcher.num_suspects == 0
        cluster.router.pool.check_integrity()


@pytest.mark.parametrize("fault", [DIES, ENDS_TOO_SOON, ENGINE_FAILS, DRAINS])
async def test_without_migration_the_same_stream_fails(fault: Script) -> None:
    first, second = FakeWorker("w1", script=fault), FakeWorker("w2", script=WHOLE)
    async with a_stream_on(first, second, migrations_max=0) as (_, answer):
        assert (await answer).error is not None
        assert len((await answer).messages) == 5
        assert second.calls == []


@pytest.mark.parametrize(("migrations_max", "whole"), [(2, True), (0, False)])
async def test_stream_on_a_frozen_worker_goes_on_and_is_cancelled_there(
    migrations_max: int, whole: bool
) -> None:
    first, second = FakeWorker("w1", script=HANGS), FakeWorker("w2", script=WHOLE)
    async with a_stream_on(
        first, second, load_silence_s_max=0.1, abandon_s=0.2, migrations_max=migrations_max
    ) as (_, answer):
        first.silence()
        if whole:
            told(await answer).check(TOKENS)
        else:
            assert (await answer).error is not None
        async with asyncio.timeout(PATIENCE_S):
            await first.calls[0].ended.wait()
        assert first.calls[0].is_cancelled, "nothing that it says later is read"


async def test_many_choices_go_on_where_each_of_them_was() -> None:
    """The first choice has ended when the worker is lost, the others have not."""
    first = FakeWorker("w1", script=Script(story=TOKENS, stops_after=3 * TOKENS - 2, dies=True))
    second = FakeWorker("w2", script=WHOLE)
    sampling = types_pb2.SamplingParams(n=3)
    async with a_stream_on(first, second, ask={"sampling": sampling}) as (_, answer):
        told(await answer).check(TOKENS, num_choices=3)
        request = inference_pb2.GenerateRequest.FromString(second.calls[0].payload)
        ends = [choice.HasField("end") for choice in request.continuation.choices]
        assert ends == [True, False, False]


async def test_client_that_wants_no_ids_gets_none_and_its_stream_survives() -> None:
    first, second = FakeWorker("w1", script=DIES), FakeWorker("w2", script=WHOLE)
    output = types_pb2.OutputOptions(token_ids=False)
    async with a_stream_on(first, second, ask={"output": output}) as (_, answer):
        told(await answer).check(TOKENS, with_ids=False)


async def test_long_answers_are_kept_as_ids() -> None:
    tokens = 400
    first = FakeWorker("w1", script=Script(story=tokens, stops_after=350, dies=True))
    second = FakeWorker("w2", script=Script(story=tokens))
    async with a_stream_on(first, second, transcript_bytes_max=500) as (_, answer):
        told(await answer).check(tokens)


async def test_two_losses_are_survived_and_a_third_is_told() -> None:
    workers = [
        FakeWorker(f"w{n}", script=Script(story=TOKENS, stops_after=4, dies=True))
        for n in range(1, 5)
    ]
    async with a_stream_on(workers[0], *workers[1:]) as (_, answer):
        result = await answer
        assert result.error is not None
        assert result.error.reason is Reason.WORKER_LOST
        heard = Told.of(result.messages)
        assert [event.seq for event in heard.events] == list(range(len(heard.events)))
        assert len(heard.workers) == 3
        assert sum(worker.num_deaths for worker in workers) == 3


async def test_draining_workers_hand_a_stream_over_more_often_than_they_may_die() -> None:
    leaving = Script(story=TOKENS, stops_after=3, error=Unavailable("bye", reason=Reason.DRAINING))
    workers = [FakeWorker(f"w{n}", script=leaving) for n in range(1, 5)]
    last = FakeWorker("w5", script=WHOLE)
    for worker in workers[1:]:
        worker.continued = leaving
    async with a_stream_on(workers[0], *workers[1:], last) as (_, answer):
        told(await answer).check(TOKENS)


@pytest.mark.parametrize(
    "refusal",
    [
        Overloaded("full"),
        Unavailable("bye", reason=Reason.DRAINING),
        Unavailable("not yet", reason=Reason.STARTING),
        Unsupported("what is that", reason=Reason.CONTINUATION_UNSUPPORTED),
    ],
)
async def test_worker_that_declines_to_go_on_is_passed_over(refusal: LeptonError) -> None:
    first = FakeWorker("w1", script=DIES)
    second = FakeWorker("w2", script=Script(messages=0, error=refusal))
    third = FakeWorker("w3", script=WHOLE)
    third.report(running=8, waiting=20)  # so that the second one is asked first
    async with a_stream_on(first, second, third, policy="least_loaded") as (cluster, answer):
        told(await answer).check(TOKENS)
        assert len(second.calls) <= 1
        assert cluster.router.dispatcher.num_suspects == 0


async def test_client_is_told_of_the_loss_when_nobody_can_go_on() -> None:
    refusal = Unsupported("what is that", reason=Reason.CONTINUATION_UNSUPPORTED)
    first = FakeWorker("w1", script=ENGINE_FAILS)
    first.continued = Script(messages=0, error=refusal)
    async with a_stream_on(first) as (_, answer):
        error = (await answer).error
        assert error is not None
        assert error.reason is Reason.ENGINE_FAILED


async def test_error_of_the_request_in_the_middle_is_final() -> None:
    error = InvalidRequest("no token", reason=Reason.GRAMMAR_UNSATISFIABLE)
    first = FakeWorker("w1", script=Script(story=TOKENS, stops_after=5, error=error))
    second = FakeWorker("w2", script=WHOLE)
    async with a_stream_on(first, second) as (_, answer):
        result = await answer
        assert result.error is not None
        assert result.error.reason is Reason.GRAMMAR_UNSATISFIABLE
        assert second.calls == []


async def test_stream_never_goes_on_with_other_weights() -> None:
    first = FakeWorker("w1", script=DIES)
    other = FakeWorker("w2", script=WHOLE, revision=OTHER_REVISION)
    async with a_stream_on(first, other) as (_, answer):
        result = await answer
        assert result.error is not None
        assert result.error.reason is Reason.REVISION_GONE
        assert len(result.messages) == 5
        assert other.calls == []


async def test_stream_waits_for_its_worker_to_restart() -> None:
    first = FakeWorker("w1", script=DIES)
    async with a_stream_on(first, wait_for_worker_s_max=10) as (cluster, answer):
        await cluster.until_state("w1", EndpointState.LOST)
        first.script = WHOLE
        await first.start()
        cluster.registry.expire("w1")
        await cluster.registry.register(first.instance())
        told(await answer).check(TOKENS)


async def test_stream_whose_connection_was_cut_goes_on_where_it_was() -> None:
    """There is no other worker, and this one lives."""
    first = FakeWorker("w1", script=ENDS_TOO_SOON)
    first.continued = WHOLE
    async with a_stream_on(first) as (cluster, answer):
        told(await answer).check(TOKENS)
        assert cluster.router.dispatcher.num_suspects == 0


async def test_same_fingerprint_is_preferred_and_another_one_better_than_none() -> None:
    first = FakeWorker("w1", script=DIES)
    unlike = FakeWorker("w2", script=WHOLE, fingerprint="another")
    like = FakeWorker("w3", script=WHOLE)
    like.report(running=8, waiting=20)
    async with a_stream_on(first, unlike, like, policy="least_loaded") as (_, answer):
        assert told(await answer).workers == ["w1", "w3"]
    first = FakeWorker("w1", script=DIES)
    async with a_stream_on(first, FakeWorker("w2", script=WHOLE, fingerprint="another")) as (
        _,
        answer,
    ):
        assert told(await answer).workers == ["w1", "w2"]


async def test_answer_whose_end_came_is_whole_although_the_worker_died_then() -> None:
    first = FakeWorker("w1", script=Script(story=TOKENS, dies=True))
    second = FakeWorker("w2", script=WHOLE)
    async with a_stream_on(first, second) as (_, answer):
        told(await answer).check(TOKENS)
        assert (await answer).finished == first.finished_story(TOKENS)
        assert second.calls == []


STORY = list(story_of(inference_pb2.GenerateRequest(text="x"), worker_id="w1", tokens=TOKENS))

DISORDER = {
    "repeated": [*STORY[:4], *STORY[3:]],
    "swapped": [*STORY[:3], STORY[4], STORY[3], *STORY[5:]],
    "gap": [*STORY[:3], *STORY[4:]],
    "gap in a merged message": [*STORY[:3], STORY[3] + STORY[5]],
    "no beginning": STORY[1:],
    "late beginning": [*STORY[:4], *STORY],
    "unreadable": [*STORY[:3], b"\xff\xff", *STORY[3:]],
}


@pytest.mark.parametrize("messages", DISORDER.values(), ids=DISORDER.keys())
@pytest.mark.parametrize("with_ids", [True, False])
async def test_stream_of_a_disorderly_worker_goes_on_elsewhere(
    messages: list[bytes], with_ids: bool
) -> None:
    """Nothing out of order reaches the client, and that worker is not asked again."""
    first = FakeWorker("w1", script=Script(messages=messages))
    first.continued = WHOLE
    second = FakeWorker("w2", script=WHOLE)
    output = types_pb2.OutputOptions(token_ids=with_ids)
    async with a_stream_on(first, second, ask={"output": output}) as (cluster, answer):
        told(await answer).check(TOKENS, with_ids=with_ids)
        assert [len(first.calls), len(second.calls)] == [1, 1]
        assert cluster.router.dispatcher.num_suspects == 0
        cluster.router.pool.check_integrity()


@pytest.mark.parametrize("messages", DISORDER.values(), ids=DISORDER.keys())
async def test_without_migration_disorder_is_told_and_not_passed_on(messages: list[bytes]) -> None:
    first = FakeWorker("w1", script=Script(messages=messages))
    async with a_stream_on(first, migrations_max=0) as (_, answer):
        result = await answer
        assert isinstance(result.error, Internal)
        assert result.error.reason is Reason.STREAM_FAULT
        heard = Told.of(result.messages)
        assert [event.seq for event in heard.events] == list(range(len(heard.events)))
        assert len(first.calls) == 1


async def test_disorderly_worker_alone_gets_no_second_chance() -> None:
    first = FakeWorker("w1", script=Script(messages=DISORDER["repeated"]))
    first.continued = WHOLE
    async with a_stream_on(first, wait_for_worker_s_max=0.1) as (_, answer):
        error = (await answer).error
        assert error is not None
        assert error.reason is Reason.STREAM_FAULT
        assert len(first.calls) == 1


async def test_router_that_cannot_wait_says_so() -> None:
    first = FakeWorker("w1", script=HANGS)
    async with a_stream_on(first, drain_s_max=0.1) as (cluster, answer):
        await until(lambda: first.num_running == 1)
        await cluster.router.drain()
        result = await answer
        assert result.error is not None
        assert result.error.reason is Reason.DRAINING
