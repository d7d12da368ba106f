"""Both clients over real connections: what the conformance cases cannot see from outside."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import grpc
import pytest

from clients.python.tests.server import Server, serving
from lepton.v1 import inference_pb2
from lepton_client import (
    AsyncClient,
    Cancelled,
    Client,
    ClientOptions,
    Reconnection,
    Unavailable,
    tls,
)
from tests.support.certificate import make_certificate, require_openssl

REQUEST = inference_pb2.GenerateRequest(text="x")
WAIT_S = 10.0


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as started:
        yield started


def test_text_ends_and_counts_of_a_completion(server: Server) -> None:
    with Client(server.address) as client:
        answer = client.complete("x")
        assert list(answer) == ["0 ", "1 ", "2 ", "3 "]
        assert answer.finish_reason == "STOP"
        assert answer.usage is not None
        assert client.chat("x").text() == "0 1 2 3 "
        assert client.complete("x").texts() == ["0 1 2 3 "]
        assert [m.model for m in client.list_models()] == ["tiny"]
        assert list(client.tokenize("Hi").token_ids) == [72, 105]
        assert client.count_tokens("four") == 4


async def test_the_same_asynchronously(server: Server) -> None:
    async with AsyncClient(server.address) as client:
        answer = client.complete("x")
        assert answer.events().trace_id == ""
        assert [piece async for piece in answer] == ["0 ", "1 ", "2 ", "3 "]
        assert answer.finish_reason == "STOP"
        assert answer.usage is not None
        assert answer.events().trace_id == "4bf9"
        assert await client.chat("x").text() == "0 1 2 3 "
        assert await client.complete("x").texts() == ["0 1 2 3 "]
        assert [m.model for m in await client.list_models()] == ["tiny"]
        assert list((await client.tokenize("Hi")).token_ids) == [72, 105]
        assert await client.count_tokens("four") == 4


def test_an_answer_is_iterated_over_once(server: Server) -> None:
    with Client(server.address) as client:
        stream = client.generate(REQUEST)
        assert stream.trace_id == ""
        assert len(list(stream)) == 6
        assert stream.trace_id == "4bf9"
        with pytest.raises(RuntimeError, match="once"):
            iter(stream)


@pytest.mark.parametrize("resume", [False, True])
def test_leaving_a_loop_ends_the_call(server: Server, resume: bool) -> None:
    server.holds = True
    with Client(server.address, resume=resume) as client:
        stream = client.generate(REQUEST)
        for _ in stream:
            break
        assert server.left.wait(WAIT_S)
        assert server.aborted.is_set() is resume


def test_leaving_a_loop_over_text_ends_the_call(server: Server) -> None:
    server.holds = True
    with Client(server.address) as client:
        for _ in client.chat("x"):
            break
        assert server.left.wait(WAIT_S)


def test_another_thread_may_cancel_who_reads(server: Server) -> None:
    server.holds = True
    with Client(server.address) as client, client.generate(REQUEST) as stream:
        events = iter(stream)
        next(events)
        next(events)
        threading.Thread(target=stream.cancel).start()
        with pytest.raises(Cancelled):
            next(events)
    assert server.left.wait(WAIT_S)
    assert server.num_streams == 1


@pytest.mark.parametrize("resume", [False, True])
async def test_leaving_the_block_ends_an_asynchronous_call(server: Server, resume: bool) -> None:
    server.holds = True
    async with AsyncClient(server.address, resume=resume) as client:
        async with client.generate(REQUEST) as stream:
            async for _ in stream:
                break
        assert await asyncio.to_thread(server.left.wait, WAIT_S)
        assert server.aborted.is_set() is resume


async def test_a_task_that_ends_takes_its_call_along(server: Server) -> None:
    server.holds = True
    begun = asyncio.Event()

    async def read(client: AsyncClient) -> None:
        async for _ in client.chat("x"):
            begun.set()

    async with AsyncClient(server.address, resume=True) as client:
        task = asyncio.ensure_future(read(client))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.left.wait, WAIT_S)
        assert await asyncio.to_thread(server.aborted.wait, WAIT_S)


async def test_whoever_reads_is_told_of_a_cancel(server: Server) -> None:
    server.holds = True
    async with AsyncClient(server.address) as client:
        stream = client.generate(REQUEST)
        events = aiter(stream)
        await anext(events)
        await anext(events)
        reading = asyncio.ensure_future(anext(events))
        await asyncio.wait({reading}, timeout=0.01)
        await stream.cancel()
        with pytest.raises(Cancelled):
            await reading


def test_a_silent_worker_is_given_up(server: Server) -> None:
    server.holds = True
    told: list[Reconnection] = []
    with Client(server.address, direct=True, silence_s=0.2, on_reconnect=told.append) as client:
        assert client.complete("x").text() == "0 1 2 3 "
    assert server.num_streams == 2
    assert [(one.address, one.after_seq) for one in told] == [(server.address, 1)]
    assert "silent for 0.2 s" in told[0].error.message


async def test_a_silent_worker_is_given_up_asynchronously(server: Server) -> None:
    server.holds = True
    async with AsyncClient(server.address, direct=True, silence_s=0.2) as client:
        assert await client.complete("x").text() == "0 1 2 3 "
    assert server.num_streams == 2


async def test_tls_with_a_certificate_on_both_sides() -> None:
    require_openssl()
    own = make_certificate()
    chain, key = own.chain, own.key
    demanding = grpc.ssl_server_credentials(
        [(key, chain)], root_certificates=chain, require_client_auth=True
    )
    with serving(demanding) as server:
        shown = tls(ca=chain, certificate=chain, key=key)
        with Client(server.address, credentials=shown) as client:
            assert client.chat("x").text() == "0 1 2 3 "
        async with AsyncClient(server.address, credentials=shown) as asynchronous:
            assert await asynchronous.chat("x").text() == "0 1 2 3 "
        with (
            Client(server.address, credentials=tls(ca=chain), retry=False) as stranger,
            pytest.raises(Unavailable, match="UNREACHABLE"),
        ):
            stranger.list_models()


def test_a_reader_that_takes_its_time_is_no_silence_of_the_worker(server: Server) -> None:
    told: list[Reconnection] = []
    with Client(server.address, direct=True, silence_s=0.05, on_reconnect=told.append) as client:
        for event in client.generate(REQUEST):
            if event.seq == 2:
                threading.Event().wait(0.2)
    assert told == []


async def test_nor_does_an_asynchronous_one_lose_its_worker(server: Server) -> None:
    told: list[Reconnection] = []
    options: ClientOptions = {"direct": True, "silence_s": 0.05, "on_reconnect": told.append}
    async with AsyncClient(server.address, **options) as client:
        async for event in client.generate(REQUEST):
            if event.seq == 2:
                await asyncio.to_thread(threading.Event().wait, 0.2)
    assert told == []
