"""Calls that are sent twice: one computation, the same events, over real gRPC."""

from __future__ import annotations

import asyncio
from typing import Any

from common.errors import InvalidRequest, Reason
from common.limits import Limits
from lepton.v1 import inference_pb2
from tests.support.processes import until
from tests.support.resuming import NUM_TOKENS, request, resuming_cluster


def keyed(key: str = "k", *, text: str = "hello", **fields: Any) -> inference_pb2.GenerateRequest:
    """A request with an idempotency key that is not resumable."""
    return request(text, resumable_ms=0, idempotency_key=key, **fields)


async def test_the_second_call_joins_the_first_from_its_first_event_on_also_at_another_router() -> (
    None
):
    async with resuming_cluster() as cluster:
        first = cluster.tap(keyed(), router=0)
        cluster.pace.allow(4)
        await first.read(num_chars=4)
        assert first.token == "", "a key does not make a call resumable by token"
        taps = [cluster.tap(keyed(request_id=f"again-{i}"), router=i % 2) for i in range(4)]
        for tap in taps:
            await tap.read(num_chars=4)
        cluster.pace.free()
        for tap in (first, *taps):
            await tap.read()
            tap.check_whole()
        assert cluster.pace.num_tokens == NUM_TOKENS


async def test_calls_that_arrive_before_the_first_answer_wait_for_it() -> None:
    async with resuming_cluster() as cluster:
        taps = [cluster.tap(keyed(), router=i % 2) for i in range(6)]
        async with asyncio.TaskGroup() as group:
            for tap in taps:
                group.create_task(tap.read())
            cluster.pace.free()
        for tap in taps:
            tap.check_whole()
        assert cluster.pace.num_tokens == NUM_TOKENS


async def test_without_a_key_each_call_is_computed() -> None:
    """The negative control."""
    async with resuming_cluster() as cluster:
        cluster.pace.free()
        for router in (0, 1):
            (await cluster.tap(request(resumable_ms=0), router=router).read()).check_whole()
        assert cluster.pace.num_tokens == 2 * NUM_TOKENS


async def test_an_ended_call_can_be_joined_for_a_while() -> None:
    async with resuming_cluster(limits=Limits(idempotency_s=2.0)) as cluster:
        cluster.pace.free()
        for router in (0, 1):
            (await cluster.tap(keyed(), router=router).read()).check_whole()
        assert cluster.pace.num_tokens == NUM_TOKENS
        await cluster.until_nothing_is_left()
        (await cluster.tap(keyed(), router=1).read()).check_whole()
        assert cluster.pace.num_tokens == 2 * NUM_TOKENS


async def test_a_key_with_another_request_is_refused_at_every_router() -> None:
    async with resuming_cluster() as cluster:
        cluster.pace.free()
        (await cluster.tap(keyed()).read()).check_whole()
        for router in (0, 1):
            other = await cluster.tap(keyed(text="hullo"), router=router).read()
            assert isinstance(other.error, InvalidRequest)
            assert other.error.reason is Reason.IDEMPOTENCY_KEY_REUSED
            assert other.error.field == "idempotency_key"
        assert cluster.pace.num_tokens == NUM_TOKENS


async def test_keys_of_two_callers_are_two_keys() -> None:
    async with resuming_cluster() as cluster:
        cluster.pace.free()
        (await cluster.tap(keyed(), caller="alice").read()).check_whole()
        (await cluster.tap(keyed(text="hullo"), caller="bob").read()).check_whole()
        assert cluster.pace.num_tokens == 2 * NUM_TOKENS


async def test_the_call_stops_when_its_last_listener_has_left() -> None:
    async with resuming_cluster(idempotency_linger_s=0.0) as cluster:
        taps = [cluster.tap(keyed(), router=i) for i in range(2)]
        cluster.pace.allow(4)
        for tap in taps:
            await tap.read(num_chars=4)
        await taps[0].leave()
        cluster.pace.allow(2)
        await taps[1].read(num_chars=6)
        await taps[1].leave()
        await until(lambda: cluster.num_kept() == 0, what="forgotten")
        cluster.pace.allow(1)
        await cluster.until_nothing_is_left()
        assert cluster.pace.num_tokens < NUM_TOKENS


async def test_a_client_that_repeats_after_a_broken_connection_finds_its_call() -> None:
    async with resuming_cluster() as cluster:
        first = cluster.tap(keyed())
        cluster.pace.allow(4)
        await first.read(num_chars=4)
        await first.leave()
        await cluster.until_alone()
        cluster.pace.free()
        resume = {"after_seq": first.seqs[-1]}
        again = await cluster.tap(keyed(resume=resume), router=1).read()
        again.check_rest(first)
        assert cluster.pace.num_tokens == NUM_TOKENS


async def test_a_key_that_nobody_knows_has_nothing_to_go_on_with() -> None:
    async with resuming_cluster() as cluster:
        tap = await cluster.tap(keyed(resume={"after_seq": 4})).read()
        assert tap.error is not None
        assert tap.error.reason is Reason.RESUME_NOT_FOUND


async def test_a_router_that_took_the_first_call_finds_it_also_when_workers_have_come_since() -> (
    None
):
    """Where keys meet depends on who is there. What the other router cannot know, it computes again."""
    async with resuming_cluster(("w1",)) as cluster:
        cluster.pace.free()
        keys = [f"key {i}" for i in range(8)]
        for key in keys:
            (await cluster.tap(keyed(key)).read()).check_whole()
        async with resuming_cluster(("x1", "x2", "x3"), num_routers=0) as more:
            more.pace.free()
            for instance in (await more.workers["x1"].registered()).values():
                await cluster.registry.register(instance)
            await cluster.until_ready(4)
            for key in keys:
                (await cluster.tap(keyed(key)).read()).check_whole()
            assert cluster.pace.num_tokens == 8 * NUM_TOKENS
            assert more.pace.num_tokens == 0
            for key in keys:
                (await cluster.tap(keyed(key), router=1).read()).check_whole()
            assert more.pace.num_tokens > 0


async def test_a_call_that_failed_is_not_remembered() -> None:
    async with resuming_cluster() as cluster:
        cluster.pace.free()
        bad = await cluster.tap(keyed(text="x" * 30_000)).read()
        assert bad.error is not None
        assert bad.error.reason is Reason.PROMPT_TOO_LONG
        await until(lambda: cluster.num_kept() == 0, what="forgotten")
        (await cluster.tap(keyed()).read()).check_whole()


async def test_a_call_that_failed_in_the_middle_is_computed_again() -> None:
    async with resuming_cluster() as cluster:
        late = cluster.tap(keyed(), timeout_s=1.0)
        cluster.pace.allow(4)
        await late.read()
        assert late.error is not None
        assert late.error.reason is Reason.DEADLINE_EXCEEDED

        def ended() -> bool:
            cluster.pace.allow(
                1
            )  # the running step ends, and with it the call once its worker's deadline has come
            return cluster.num_computing() == 0

        await until(ended, what="an idle engine")
        cluster.pace.free()
        for router in (0, 1):
            (await cluster.tap(keyed(), router=router).read()).check_whole()
        assert NUM_TOKENS + 4 <= cluster.pace.num_tokens < 2 * NUM_TOKENS, "computed anew, once"
