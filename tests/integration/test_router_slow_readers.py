"""Clients that read slowly or never: bounded, cut off, and nobody else's trouble."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest

from common.errors import Reason
from common.rpc.status import from_rpc_error
from lepton.v1 import inference_pb2
from loadtest.latency.cpu import rss_bytes
from tests.support import processes
from tests.support.fake_worker import FakeWorker, Script
from tests.support.patience import PATIENCE_S
from tests.support.router_process import cluster
from tests.support.silent_client import SilentClient
from tests.support.small_cluster import GENERATE, ask, small_cluster, until

REQUEST = inference_pb2.GenerateRequest(model="tiny", text="x")
WAITING_BYTES_MAX = 8 << 20
KIB = 1024


def messages_of(count: int, size: int) -> list[bytes]:
    """A stream of so many events, each with a text of `size` bytes."""
    return [
        inference_pb2.GenerateResponse(
            events=[inference_pb2.Event(seq=seq, delta=inference_pb2.Delta(text="x" * size))]
        ).SerializeToString()
        for seq in range(count)
    ]


LARGE = messages_of(40, 8 * KIB)


async def metric(address: str, name: str) -> float:
    """Of the router whose metrics are at `address`."""
    page = await asyncio.to_thread(lambda: urlopen(f"http://{address}/metrics").read().decode())
    found = re.search(rf"^{name} (\S+)$", page, re.MULTILINE)
    assert found, page
    return float(found[1])


async def metric_becomes(address: str, name: str, value: float) -> None:
    async def holds() -> bool:
        return await metric(address, name) == value

    await processes.until(holds, what=f"{name} is {value}")


async def test_two_thousand_silent_streams_hurt_nobody(tmp_path: Path) -> None:
    """While they are open and after they were cut off others get their answers, and memory stays bounded."""
    connections, streams = 4, 500  # gRPC itself refuses some of a thousand that come at once
    worker = FakeWorker(script=Script(messages=LARGE))
    worker.report(rows_max=2 * connections * streams)  # so that none of them has to wait
    async with cluster(tmp_path, worker, slow_reader_s=4, outlets_bytes_max=WAITING_BYTES_MAX) as (
        router,
        channel,
    ):
        metrics = router.ready["metrics_address"]
        assert (await ask(channel, REQUEST)).messages
        before = rss_bytes(router.pid)
        silent = []
        answers = []
        for _ in range(connections):
            client = await SilentClient.connect(router.address)
            silent.append(client)
            client.open(REQUEST.SerializeToString(), streams)
            answers += [await ask(channel, REQUEST) for _ in range(5)]
            await until(lambda client=client: client.answered == streams)
        waiting = await metric(metrics, "lepton_waiting_bytes")
        assert 0 < waiting <= WAITING_BYTES_MAX + connections * streams * len(LARGE[-1])
        answers += [await ask(channel, REQUEST) for _ in range(20)]
        await metric_becomes(metrics, "lepton_slow_readers_total", connections * streams)
        await metric_becomes(metrics, "lepton_requests_in_flight", 0)
        await until(lambda: worker.num_running == 0, what="the worker stops")
        assert await metric(metrics, "lepton_waiting_bytes") == 0
        answers += [await ask(channel, REQUEST) for _ in range(20)]
        for answer in answers:
            assert answer.error is None
            assert b"".join(answer.messages) == b"".join(LARGE)
        per_stream = (rss_bytes(router.pid) - before) / (connections * streams)
        assert per_stream < 160 * KIB
        assert all(client.bytes == 0 for client in silent)


async def test_silent_stream_is_kept_while_it_may() -> None:
    """The control: without the cut-off the worker would go on waiting for that client."""
    worker = FakeWorker(script=Script(messages=LARGE))
    async with small_cluster(worker, slow_reader_s=3600) as cluster_:
        client = await SilentClient.connect(f"127.0.0.1:{cluster_.router.port}")
        client.open(REQUEST.SerializeToString(), 1)
        await until(lambda: len(worker.calls) == 1)
        for _ in range(20):
            assert (await cluster_.ask()).error is None
        assert worker.num_running == 1
        client.transport.abort()
        await until(lambda: worker.num_running == 0)


async def test_client_that_reads_late_gets_all_of_it_in_fewer_messages() -> None:
    """Small messages that piled up were merged; nothing is missing, nothing twice."""
    messages = messages_of(2000, 100)
    worker = FakeWorker(script=Script(messages=messages))
    async with small_cluster(worker) as cluster_:
        answer = await cluster_.ask()
        assert answer.error is None
        assert b"".join(answer.messages) == b"".join(messages)


async def test_client_that_reads_again_after_the_cut_is_told_why() -> None:
    messages = messages_of(1000, 8 * KIB)  # more than a client's own window
    worker = FakeWorker(script=Script(messages=messages))
    async with small_cluster(worker, slow_reader_s=0.2) as cluster_:
        call: Any = cluster_.channel.unary_stream(GENERATE)(
            REQUEST.SerializeToString(), timeout=PATIENCE_S
        )
        await until(lambda: len(worker.calls) == 1)
        await worker.calls[0].ended.wait()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in call:
                pass
        assert from_rpc_error(caught.value).reason is Reason.SLOW_READER


async def test_more_calls_than_a_connection_may_have_wait_at_the_client() -> None:
    """Other connections do not notice."""
    gate = asyncio.Event()
    worker = FakeWorker(script=Script(gate=gate))
    async with small_cluster(worker, calls_per_connection_max=4) as cluster_:
        assert (await cluster_.ask("nobody")).error  # by then the client knows how many it may open
        async with (
            asyncio.TaskGroup() as group,
            grpc.aio.insecure_channel(
                f"127.0.0.1:{cluster_.router.port}", options=[("grpc.use_local_subchannel_pool", 1)]
            ) as other,
        ):
            for _ in range(6):
                group.create_task(cluster_.ask())
            await until(lambda: len(worker.calls) == 4)
            asking = group.create_task(ask(other, REQUEST))
            await until(lambda: len(worker.calls) == 5)
            gate.set()
            assert (await asking).error is None


async def test_drain_waits_for_what_a_client_has_yet_to_take() -> None:
    """The worker is done long before its client; the client still gets everything."""
    messages = messages_of(
        520, 8 * KIB
    )  # more than the window of a client, so that some of it waits here
    worker = FakeWorker(script=Script(messages=messages))
    async with small_cluster(worker) as cluster_:
        call: Any = cluster_.channel.unary_stream(GENERATE)(
            REQUEST.SerializeToString(), timeout=PATIENCE_S
        )
        await until(lambda: cluster_.router.outlets.waiting_bytes > 0)
        async with asyncio.TaskGroup() as group:
            draining = group.create_task(cluster_.router.drain(20))
            await until(lambda: cluster_.router.dispatcher.is_refusing)
            assert not draining.done()
            got = [message async for message in call]
        assert b"".join(got) == b"".join(messages)
        assert await call.code() is grpc.StatusCode.OK


async def test_connections_beyond_the_most_are_closed() -> None:
    """Those that are there go on; when one leaves, the next may come."""
    worker = FakeWorker()
    async with small_cluster(worker, connections_max=2) as cluster_:
        assert (await cluster_.ask()).error is None  # the first connection
        address = f"127.0.0.1:{cluster_.router.port}"
        second = await SilentClient.connect(address)
        second.open(REQUEST.SerializeToString(), 1)
        await until(lambda: second.answered == 1)
        third = await SilentClient.connect(address)
        await until(third.transport.is_closing)
        assert (await cluster_.ask()).error is None
        second.transport.abort()

        async def is_answered() -> bool:
            client = await SilentClient.connect(address)
            client.open(REQUEST.SerializeToString(), 1)
            try:
                await until(lambda: client.answered == 1 or client.transport.is_closing())
                return client.answered == 1
            finally:
                client.transport.abort()

        await processes.until(is_answered, what="there is room again")
