"""Kill what can be killed while streams run; each test has its control beside it."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import grpc
import pytest

from common.errors import Reason
from common.rpc.status import from_rpc_error
from lepton.v1 import inference_pb2
from tests.support.patience import PATIENCE_S
from tests.support.processes import Answer, ask, until, user

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]

LONG = 300
"""Tokens of a stream that is long enough to be killed in the middle."""


def _long(index: int) -> inference_pb2.GenerateRequest:
    request = user(f"What is {10 + index} + {20 + index}?", max_tokens=LONG, ignore_eos=True)
    request.sampling.temperature = 0.8
    request.sampling.seed = index
    return request


async def _start_streams(cluster: Any, count: int) -> tuple[list[asyncio.Task[Answer]], list[int]]:
    """`count` long streams; returns them when each has got its first tokens, with live token counts."""
    tokens = [0] * count

    def counter(index: int) -> Any:
        def count_tokens(event: inference_pb2.Event) -> None:
            tokens[index] += len(event.delta.token_ids)

        return count_tokens

    channel = cluster.channel()
    tasks = [
        asyncio.ensure_future(ask(channel, _long(index), on_event=counter(index)))
        for index in range(count)
    ]
    await until(lambda: all(tokens), what="every stream has its first token")
    return tasks, tokens


async def test_killing_etcd_costs_nothing_and_its_return_is_seen(make_cluster: Any) -> None:
    cluster = await make_cluster(workers=2)
    alone = await ask(cluster.channel(), _long(3))
    streams, _ = await _start_streams(cluster, 20)
    cluster.etcd.kill()
    fresh = await asyncio.gather(
        *(ask(cluster.channel(), user("What is 12 + 34?")) for _ in range(4))
    )
    answers = await asyncio.gather(*streams)

    assert [a.error for a in [*answers, *fresh]] == [None] * 24
    assert all(a.whole for a in [*answers, *fresh])
    assert all(len(a.token_ids) == LONG for a in answers)
    assert answers[3].token_ids == alone.token_ids  # untouched, to the token

    cluster.etcd.restart(wipe=True)
    await cluster.add_worker()  # found only through an etcd that is really back
    await cluster.wait_for_workers(3)


async def test_killing_a_worker_costs_nothing(make_cluster: Any) -> None:
    """Its streams go on with the other worker, to the token and the letter as if nothing had happened."""
    cluster = await make_cluster(workers=2)
    streams, tokens = await _start_streams(cluster, 8)
    cluster.workers[0].kill()
    at_kill = list(tokens)
    answers = await asyncio.gather(*streams)
    alone = [await ask(cluster.channel(), _long(index)) for index in range(8)]

    moved = [a for a in answers if a.worker_id == "worker-1" and a.migrations]
    assert moved, f"the victim had no stream to lose; the test proves nothing: {at_kill}"
    assert [a.error for a in answers] == [None] * 8
    assert all(a.whole for a in answers)
    assert [a.token_ids for a in answers] == [a.token_ids for a in alone]
    assert [a.text for a in answers] == [a.text for a in alone]
    usages = [a.finished.usage.completion_tokens for a in answers if a.finished]
    assert usages == [LONG] * 8


async def test_worker_whose_grace_is_too_short_hands_its_streams_over(make_cluster: Any) -> None:
    cluster = await make_cluster(workers=0)
    leaving = await cluster.add_worker(drain_s_max=0)
    await cluster.add_worker()
    await cluster.wait_for_workers(2)
    streams, _ = await _start_streams(cluster, 8)  # so many that both workers have some
    leaving.terminate()
    answers = await asyncio.gather(*streams)
    # Afterwards, or they would go where they were asked before.
    alone = [await ask(cluster.channel(), _long(index)) for index in range(8)]
    assert any(a.migrations for a in answers), "no stream was long enough; the test proves nothing"
    assert [a.error for a in answers] == [None] * 8
    assert all(a.whole for a in answers)
    assert [a.token_ids for a in answers] == [a.token_ids for a in alone]
    assert await leaving.wait() == 0


async def test_without_migration_killing_a_worker_costs_its_own_running_streams(
    make_cluster: Any,
) -> None:
    cluster = await make_cluster(workers=2, migrations_max=0)
    streams, tokens = await _start_streams(cluster, 8)
    victim = cluster.workers[0]
    victim.kill()
    at_kill = list(tokens)
    answers = await asyncio.gather(*streams)

    lost = [a for a in answers if a.worker_id == "worker-1" and not a.whole]
    kept = [a for a in answers if a.worker_id == "worker-2"]
    assert lost, f"the victim had no stream to lose; the test proves nothing: {at_kill}"
    assert kept
    assert all(a.whole and len(a.token_ids) == LONG for a in kept)
    for answer in lost:
        assert answer.error is not None
        error = from_rpc_error(answer.error)
        assert error.reason is Reason.WORKER_LOST
        assert answer.finished is None

    fresh = await asyncio.gather(
        *(ask(cluster.channel(), user("What is 12 + 34?")) for _ in range(8))
    )
    assert all(a.whole for a in fresh)
    assert {a.worker_id for a in fresh} == {"worker-2"}

    await victim.start()
    await cluster.wait_for_workers(2)


async def test_a_frozen_worker_is_left_alone_until_it_moves_again(make_cluster: Any) -> None:
    cluster = await make_cluster(workers=2)
    streams, _ = await _start_streams(cluster, 8)
    victim = cluster.workers[0]
    os.kill(victim.pid, signal.SIGSTOP)
    try:
        await cluster.wait_for_workers(1)
        # Nothing waits for the frozen one: neither what ran there, nor what comes now.
        async with asyncio.timeout(PATIENCE_S):
            answers = await asyncio.gather(*streams)
            fresh = [await ask(cluster.channel(), user("What is 12 + 34?")) for _ in range(4)]
        assert all(a.whole for a in answers if a.worker_id == "worker-2")
        assert [(a.whole, a.worker_id) for a in fresh] == [(True, "worker-2")] * 4
    finally:
        os.kill(victim.pid, signal.SIGCONT)
    await cluster.wait_for_workers(2)


async def test_a_killed_router_comes_back_to_the_same_workers(make_cluster: Any) -> None:
    cluster = await make_cluster(workers=2)
    streams, _ = await _start_streams(cluster, 4)
    before = (await ask(cluster.channel(), user("What is 12 + 34?"))).text
    cluster.router.kill()
    answers = await asyncio.gather(*streams)
    assert all(a.error is not None for a in answers)
    assert {a.error.code() for a in answers if a.error} == {grpc.StatusCode.UNAVAILABLE}

    await cluster.start_router()
    after = await ask(cluster.channel(), user("What is 12 + 34?"))
    assert after.whole
    assert after.text == before


async def test_a_worker_drains_under_load_without_an_error(make_cluster: Any) -> None:
    cluster = await make_cluster(workers=2)
    streams, _ = await _start_streams(cluster, 8)
    leaving = cluster.workers[0]
    leaving.terminate()
    during = [await ask(cluster.channel(), user("What is 12 + 34?")) for _ in range(8)]
    answers = await asyncio.gather(*streams)

    assert [a.error for a in [*answers, *during]] == [None] * 16
    assert all(len(a.token_ids) == LONG for a in answers)
    assert {a.worker_id for a in answers} == {"worker-1", "worker-2"}
    assert await leaving.wait() == 0
    late = await ask(cluster.channel(), user("What is 12 + 34?"))
    assert late.whole
    assert late.worker_id == "worker-2"


async def test_a_router_drains_under_load_without_an_error(make_cluster: Any) -> None:
    cluster = await make_cluster(workers=2)
    streams, _ = await _start_streams(cluster, 6)
    cluster.router.terminate()
    answers = await asyncio.gather(*streams)
    assert [a.error for a in answers] == [None] * 6
    assert all(a.whole and len(a.token_ids) == LONG for a in answers)
    assert await cluster.router.wait() == 0


async def test_a_client_that_goes_away_stops_the_compute(make_cluster: Any) -> None:
    cluster = await make_cluster(workers=1)
    streams, tokens = await _start_streams(cluster, 3)
    for stream in streams:
        stream.cancel()
    await asyncio.gather(*streams, return_exceptions=True)
    assert max(tokens) < LONG, "the streams were over before they were cancelled"

    import urllib.request

    address = cluster.workers[0].ready["metrics_address"]

    def running() -> bool:
        text = (
            urllib.request.urlopen(f"http://{address}/metrics", timeout=PATIENCE_S).read().decode()
        )
        values = [
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith("lepton_num_requests_running")
        ]
        assert values
        return sum(values) == 0

    await until(running, what="no running sequence after the clients left")
