"""Server-sent events over real routers and workers: heartbeats, coming back, leaving, breaking."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from common.limits import Limits
from gateway.settings import GatewaySettings
from tests.support.processes import until
from tests.support.resuming import NUM_TOKENS, ResumingCluster, resuming_cluster, text_of
from tests.support.sse import DONE, SseEvent, sse_events

GATEWAY = GatewaySettings(port=0)
CHAT = {
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": NUM_TOKENS,
    "stream": True,
}
RESUMABLE = {**CHAT, "lepton": {"resumable_ms": 20_000}}


@asynccontextmanager
async def stream(
    cluster: ResumingCluster,
    body: dict[str, Any],
    *,
    router: int = 0,
    path: str = "/v1/chat/completions",
    **headers: str,
) -> AsyncIterator[AsyncIterator[SseEvent]]:
    url = cluster.http(router) + path
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=body, headers=headers) as response,
    ):
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        yield sse_events(response)


async def read(events: AsyncIterator[SseEvent], *, num_chars: int) -> list[SseEvent]:
    seen: list[SseEvent] = []
    while sum(len(event.text) for event in seen) < num_chars:
        seen.append(await anext(events))
    return seen


async def rest(events: AsyncIterator[SseEvent]) -> list[SseEvent]:
    return [event async for event in events]


def text(events: list[SseEvent]) -> str:
    return "".join(event.text for event in events if event.data != DONE)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/completions", {"prompt": "hello", "max_tokens": NUM_TOKENS, "stream": True}),
    ],
)
async def test_a_stream_is_whole_and_says_so(path: str, body: dict[str, Any]) -> None:
    body = {**body, "stream_options": {"include_usage": True}}
    async with resuming_cluster(num_routers=1, gateway=GATEWAY) as cluster:
        cluster.pace.free()
        async with stream(cluster, body, path=path) as events:
            seen = await rest(events)
        *chunks, usage, done = seen
        assert done.data == DONE
        assert text(chunks) == text_of(NUM_TOKENS)
        assert usage.json["choices"] == []
        assert usage.json["usage"]["completion_tokens"] == NUM_TOKENS
        assert [chunk.json["choices"][0]["finish_reason"] for chunk in chunks][-1] == "length"
        assert {chunk.json["usage"] for chunk in chunks} == {None}
        assert not any(event.id for event in seen), "not resumable: no place to come back to"


async def test_silence_is_filled_with_comments() -> None:
    gateway = GATEWAY.model_copy(update={"heartbeat_s": 0.05})
    async with resuming_cluster(num_routers=1, gateway=gateway) as cluster:
        cluster.pace.allow(2)
        async with stream(cluster, CHAT) as events:
            begun = await read(events, num_chars=2)
            for _ in range(3):
                beat = await anext(events)
                assert (beat.comment, beat.data) == ("still here", "")
            cluster.pace.free()
            heard = [event for event in await rest(events) if event.data]
        assert text([*begun, *heard]) == text_of(NUM_TOKENS)


async def test_a_prompt_that_takes_long_is_no_dead_stream() -> None:
    """A comment begins it; what goes wrong then is an event, as it is later."""
    gateway = GATEWAY.model_copy(update={"first_event_s_max": 0.05, "heartbeat_s": 0.05})
    limits = Limits(deadline_s_max=1.0)
    async with resuming_cluster(num_routers=1, gateway=gateway, limits=limits) as cluster:
        async with stream(cluster, CHAT) as events:
            seen = await rest(events)
        assert seen[0].comment == "still here"
        *beats, failed = seen
        assert {beat.data for beat in beats} == {""}
        assert failed.json["error"]["code"] == "deadline_exceeded"
        async with stream(cluster, CHAT) as events:
            for _ in range(2):
                assert (await anext(events)).comment == "still here"
            cluster.pace.free()
            heard = [event for event in await rest(events) if event.data]
            assert text(heard) == text_of(NUM_TOKENS)


async def test_a_cut_stream_goes_on_through_another_router() -> None:
    async with resuming_cluster(gateway=GATEWAY) as cluster:
        cluster.pace.allow(5)
        async with stream(cluster, RESUMABLE) as events:
            first = await read(events, num_chars=5)
        await cluster.until_alone()
        cluster.pace.free()
        place = first[-1].id
        async with stream(cluster, RESUMABLE, router=1, **{"last-event-id": place}) as events:
            second = await rest(events)
        assert text(first) + text(second) == text_of(NUM_TOKENS)
        assert {e.json["id"] for e in (*first, *second) if e.data != DONE} == {first[0].json["id"]}
        assert cluster.pace.num_tokens == NUM_TOKENS, "nothing was computed twice"


async def test_a_client_comes_back_to_where_a_stream_has_moved() -> None:
    async with resuming_cluster(num_routers=1, gateway=GATEWAY) as cluster:
        cluster.pace.allow(5)
        async with stream(cluster, RESUMABLE) as events:
            first = await read(events, num_chars=5)
            given_up = next(name for name in cluster.workers if cluster.keeps(name))
            cluster.give_up(given_up)
            await until(lambda: not cluster.keeps(given_up), what="let go")
            cluster.pace.allow(10)
            first += await read(events, num_chars=2)
        cluster.pace.free()
        await cluster.until_alone()
        async with stream(cluster, RESUMABLE, **{"last-event-id": first[-1].id}) as events:
            second = await rest(events)
        assert text(first) + text(second) == text_of(NUM_TOKENS)


async def test_whoever_makes_up_a_place_is_refused() -> None:
    async with (
        resuming_cluster(num_routers=1, gateway=GATEWAY) as cluster,
        aiohttp.ClientSession() as session,
    ):
        for place, status, code in (
            ("x", 400, "field_malformed"),
            ("1/made-up/me", 404, "resume_not_found"),
        ):
            url = cluster.http() + "/v1/chat/completions"
            async with session.post(
                url, json=RESUMABLE, headers={"last-event-id": place}
            ) as answer:
                told = (await answer.json())["error"]
                assert (answer.status, told["code"]) == (status, code)
                assert told["param"] == "last-event-id"


@pytest.mark.parametrize("streams", [True, False])
async def test_a_client_that_leaves_stops_the_compute(*, streams: bool) -> None:
    async with resuming_cluster(num_routers=1, gateway=GATEWAY) as cluster:
        url = cluster.http() + "/v1/chat/completions"
        session = aiohttp.ClientSession()
        asking = asyncio.ensure_future(session.post(url, json={**CHAT, "stream": streams}))
        await until(lambda: cluster.num_computing() == 1, what="it computes")
        cluster.pace.allow(2)
        await until(lambda: cluster.pace.num_tokens == 2, what="two tokens")
        if streams:
            (await asking).close()
        asking.cancel()
        await session.close()
        await cluster.until_alone()
        cluster.pace.allow(2)
        await cluster.until_nothing_is_left()
        assert cluster.pace.num_tokens < NUM_TOKENS


async def test_a_stream_that_breaks_says_why_and_ends() -> None:
    limits = Limits(deadline_s_max=1.0)
    async with resuming_cluster(num_routers=1, gateway=GATEWAY, limits=limits) as cluster:
        cluster.pace.allow(3)
        async with stream(cluster, CHAT) as events:
            seen = await rest(events)
        assert text([e for e in seen if "choices" in e.json]) == text_of(3)
        error = seen[-1].json["error"]
        assert (error["code"], error["type"]) == ("deadline_exceeded", "timeout_error")
        assert seen[-1].data != DONE


async def test_a_reader_that_takes_nothing_is_cut_off() -> None:
    """The prompt comes back as log-probabilities of twenty tokens: enough to fill every buffer on the way."""
    gateway = GATEWAY.model_copy(update={"goodbye_s_max": 0.2})
    num_tokens = 19_000  # engines wait for no reader: it is cut off with what waits for it
    async with resuming_cluster(
        num_routers=1, gateway=gateway, router={"slow_reader_s": 0.5}
    ) as cluster:
        cluster.pace.free()
        host, port = cluster.http().removeprefix("http://").split(":")
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect((host, int(port)))
        body = f'{{"prompt":"x","max_tokens":{num_tokens},"stream":true,"logprobs":20}}'
        narrow.sendall(
            (
                f"POST /v1/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\n\r\n{body}"
            ).encode()
        )
        outlets = cluster.routers[0].outlets
        await until(lambda: len(outlets) == 1, what="it streams")
        await until(lambda: len(outlets) == 0, what="cut off")
        await cluster.until_nothing_is_left()
        narrow.close()
