"""U4: whatever is sent, and however often, nothing is kept of it: not an object, not a task, not a file.

In CI one small input for each door and reason, and what no library sends, together and dozens of times.
`make leaks` sends the whole small catalogue, each input a thousand times by itself, so that a leak has a name; that
takes half an hour. What answers leave `make soak` looks at: windows and caches take long to fill.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from tests.support.bad_requests import ROWS, Small, is_tried_out, one_of_each, small
from tests.support.demo_cluster import DemoCluster, demo_cluster
from tests.support.doors import DOORS, Doors, doors_of
from tests.support.http_client import connect
from tests.support.leaks import Growth, growth
from tests.support.raw_http import RAW, RawRequest

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

REPEATS = 60
THOROUGH = int(os.environ.get("LEPTON_LEAK_REPEATS", "0"))
"""Repeats of every single input; 0: only together."""
RAW_BYTES_MAX = 400
THOROUGH_BYTES_MAX = 20_000


@pytest_asyncio.fixture(name="cluster", scope="module", loop_scope="module")
async def _cluster() -> AsyncIterator[DemoCluster]:
    async with demo_cluster() as cluster:
        yield cluster


@pytest_asyncio.fixture(name="doors", loop_scope="module")
async def _doors(cluster: DemoCluster) -> AsyncIterator[Doors]:
    """New ones for each test: a socket that nobody reads while other doors are asked is closed after 20 s."""
    async with doors_of(cluster) as doors:
        yield doors


async def _growth(
    cluster: DemoCluster, once: Callable[[], Any], *, repeats: int = REPEATS
) -> Growth:
    async def settled() -> None:
        await cluster.worker.idle()
        cluster.worker.spans.clear()

    return await growth(once, repeats=repeats, settled=settled)


async def _send_raw(cluster: DemoCluster, sent: bytes) -> None:
    """Until its answer begins; the rest is not waited for."""
    _, writer = pair = await connect(cluster.http)
    writer.write(sent)
    async with asyncio.timeout(10):
        await pair[0].readline()
    writer.transport.abort()


def _together(volley: Small) -> Callable[[Doors], Any]:
    async def send(doors: Doors) -> None:
        for (door, _), asked in volley.items():
            await DOORS[door](doors, asked)

    return send


async def test_refusals_leave_nothing(cluster: DemoCluster, doors: Doors) -> None:
    send = _together(one_of_each(row for row in ROWS if not is_tried_out(row)))
    grown = await _growth(cluster, lambda: send(doors))
    assert not grown.leaks(), grown


async def test_what_no_library_sends_leaves_nothing(cluster: DemoCluster) -> None:
    async def send() -> None:
        for raw in RAW:
            if len(raw.sent) < RAW_BYTES_MAX:
                await _send_raw(cluster, raw.sent)

    grown = await _growth(cluster, send)
    assert not grown.leaks(), grown


@pytest.mark.parametrize(("door", "name"), small(ROWS) if THOROUGH else ())
async def test_no_input_leaves_anything(
    cluster: DemoCluster, doors: Doors, door: str, name: str
) -> None:
    send = _together({(door, name): small(ROWS)[door, name]})
    grown = await _growth(cluster, lambda: send(doors), repeats=THOROUGH)
    assert not grown.leaks(), grown


@pytest.mark.parametrize("raw", RAW if THOROUGH else (), ids=lambda raw: raw.id)
async def test_nothing_raw_leaves_anything(cluster: DemoCluster, raw: RawRequest) -> None:
    if len(raw.sent) < THOROUGH_BYTES_MAX:
        grown = await _growth(cluster, lambda: _send_raw(cluster, raw.sent), repeats=THOROUGH)
        assert not grown.leaks(), grown


KEPT: list[Any] = []


def _keep_object() -> None:
    KEPT.append([])


def _keep_memory() -> None:
    ctypes.CDLL(None).malloc(1000)


def _keep_file() -> None:
    KEPT.append(os.open("/dev/null", os.O_RDONLY))


def _keep_task() -> None:
    KEPT.append(asyncio.ensure_future(asyncio.Event().wait()))


@pytest.mark.parametrize(
    ("keep", "what"),
    [
        (_keep_object, "objects"),
        (_keep_memory, "heap_bytes"),
        (_keep_file, "files"),
        (_keep_task, "tasks"),
    ],
)
async def test_a_leak_is_found(
    cluster: DemoCluster, doors: Doors, keep: Callable[[], None], what: str
) -> None:
    """Negative controls: a refused request keeps the least that it can."""

    async def send() -> None:
        await DOORS["completions"](doors, {"max_tokens": 0})
        keep()

    try:
        assert what in (await _growth(cluster, send, repeats=240)).leaks()
    finally:
        for one in KEPT:
            if isinstance(one, int):
                os.close(one)
            elif isinstance(one, asyncio.Task):
                one.cancel()
        KEPT.clear()


async def test_nothing_is_no_leak(cluster: DemoCluster, doors: Doors) -> None:
    async def send() -> None:
        await DOORS["completions"](doors, {"max_tokens": 0})

    grown = await _growth(cluster, send, repeats=240)
    assert not grown.leaks(), grown
