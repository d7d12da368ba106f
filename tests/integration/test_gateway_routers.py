"""`lepton-gateway` before several routers: the next one when one is away, and never a call twice."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from agent.ports import free_port
from common.errors import LeptonError, Reason
from gateway.ports import Asked
from lepton.v1 import inference_pb2
from tests.support.fake_worker import FakeWorker, Script
from tests.support.gateway import door_before, routers_at
from tests.support.http_client import ask_http, post_json
from tests.support.processes import LeptonProcess, until
from tests.support.resuming import NUM_TOKENS, request, resuming_cluster, text_of
from tests.support.router_process import cluster
from tests.support.small_cluster import small_cluster
from tests.support.sse import DONE, sse_events

VALID = inference_pb2.GenerateRequest(text="x").SerializeToString()
BODY = {"prompt": "hello", "max_tokens": NUM_TOKENS, "stream": True}


async def ask(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.post(url, json=BODY) as response:
        events = [event async for event in sse_events(response)]
    assert events[-1].data == DONE, events[-1]
    return "".join(event.text for event in events[:-1])


async def test_calls_go_to_the_routers_in_turn() -> None:
    async with small_cluster(FakeWorker()) as one, small_cluster(FakeWorker()) as two:
        async with routers_at([f"127.0.0.1:{c.router.port}" for c in (one, two)]) as routers:
            for _ in range(4):
                await routers.generate(VALID, Asked(), _drop)
        assert [len(c.workers["w1"].calls) for c in (one, two)] == [2, 2]


async def test_a_router_that_is_away_is_passed_over_and_found_again() -> None:
    away = free_port()
    async with resuming_cluster(num_routers=1) as found:
        found.pace.free()
        there = f"127.0.0.1:{found.routers[0].port}"
        async with routers_at([f"127.0.0.1:{away}", there]) as routers, door_before(routers) as url:
            for _ in range(6):
                assert await ask(url + "/v1/completions") == text_of(NUM_TOKENS)
            assert await routers.is_ready()


async def test_without_any_router_it_says_so() -> None:
    async with routers_at([f"127.0.0.1:{free_port()}"]) as routers, door_before(routers) as url:
        answer = await post_json(url, "/v1/completions", json.dumps(BODY).encode())
        assert (answer.status, answer.code) == (503, "unreachable")
        assert int(answer.headers["retry-after"]) >= 1
        assert not await routers.is_ready()


async def test_a_refusal_is_final_but_a_draining_router_passes_the_call_on() -> None:
    async with small_cluster(FakeWorker()) as one, small_cluster(FakeWorker()) as two:
        addresses = [f"127.0.0.1:{c.router.port}" for c in (one, two)]
        async with routers_at(addresses) as routers:
            with pytest.raises(LeptonError) as refused:
                await routers.generate(
                    request("", resumable_ms=0).SerializeToString(), Asked(), _drop
                )
            assert refused.value.reason is Reason.PROMPT_EMPTY
            one.router.dispatcher.refuse_new()
            for _ in range(4):
                await routers.generate(VALID, Asked(), _drop)
        assert len(one.workers["w1"].calls) == 0
        assert len(two.workers["w1"].calls) == 4


async def test_a_stream_that_has_begun_is_not_begun_again() -> None:
    """The negative control of the retry: what the client has of it would come twice."""
    got: list[bytes] = []

    async def write(message: bytes) -> None:
        got.append(message)

    async with (
        small_cluster(FakeWorker(script=Script(messages=2, hang=True))) as one,
        small_cluster(FakeWorker()) as two,
        routers_at([f"127.0.0.1:{c.router.port}" for c in (two, one)]) as routers,
    ):
        asking = asyncio.ensure_future(routers.generate(VALID, Asked(), write))
        await until(lambda: len(got) == 2, what="two messages")
        await one.router.server.stop(0)
        with pytest.raises(LeptonError) as lost:
            await asking
        assert lost.value.reason is Reason.WORKER_LOST
        assert two.workers["w1"].calls == []


async def test_the_process_outlives_a_killed_router(tmp_path: Path) -> None:
    async with cluster(tmp_path, FakeWorker()) as (first, _):
        second = await LeptonProcess(
            "router",
            {
                "port": 0,
                "metrics_port": 0,
                "discovery.registry_dir": tmp_path,
                "gateway.in_router": "false",
            },
        ).start()
        door = LeptonProcess("gateway", {"routers": f"{first.address},{second.address}"})
        try:
            await door.start()
            url = f"http://{door.http_address}"
            for kill in (False, True):
                if kill:
                    first.kill()
                for _ in range(4):
                    answer = await post_json(url, "/v1/completions", json.dumps(BODY).encode())
                    assert answer.status == 200
                    assert b"token-2" in answer.body
            ready = await ask_http(url, b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert ready.status == 200
            door.terminate()
            await until(lambda: door._exited(), what="it drains and ends")
            assert door.process is not None
            assert door.process.returncode == 0
        finally:
            await door.stop()
            await second.stop()


async def _drop(_: bytes) -> None:
    """Takes a message."""
