"""U7: whatever is refused at whatever door is written down once, with caller, route, reason and id."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import pytest_asyncio

from common.logs import JsonFormatter
from tests.support.bad_requests import ROWS, one_of_each
from tests.support.demo_cluster import DemoCluster, demo_cluster
from tests.support.doors import DOORS, Answered, Doors, Refusal, doors_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLER = "somebody-7"
ONE_OF_EACH = one_of_each(ROWS)
LINES = {
    "gRPC": ("rpc.call", "method", "lepton.v1.InferenceService/Generate"),
    "WebSocket": ("websocket.call", "route", "/v1/ws"),
    "chat": ("http.call", "route", "/v1/chat/completions"),
    "chat, streamed": ("http.call", "route", "/v1/chat/completions"),
    "completions": ("http.call", "route", "/v1/completions"),
    "completions, streamed": ("http.call", "route", "/v1/completions"),
    "KServe": ("http.call", "route", "/v2/models/{name}/infer"),
    "KServe, gRPC": ("rpc.call", "method", "inference.GRPCInferenceService/ModelInfer"),
}
"""Door → event of its line, and what says where it was."""


@pytest_asyncio.fixture(name="cluster", scope="module", loop_scope="module")
async def _cluster() -> AsyncIterator[DemoCluster]:
    async with demo_cluster() as cluster:
        yield cluster


@pytest_asyncio.fixture(name="doors", scope="module", loop_scope="module")
async def _doors(cluster: DemoCluster) -> AsyncIterator[Doors]:
    async with doors_of(cluster, caller=CALLER) as doors:
        yield doors


@contextmanager
def _written() -> Iterator[io.StringIO]:
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    handler.setFormatter(JsonFormatter(service="test", instance_id="test"))
    names = ("gateway", "common")
    try:
        logging.getLogger().addHandler(handler)
        for name in names:
            logging.getLogger(name).setLevel(logging.INFO)
        yield log
    finally:
        logging.getLogger().removeHandler(handler)
        for name in names:
            logging.getLogger(name).setLevel(logging.NOTSET)


async def _lines(log: io.StringIO, door: str) -> list[dict[str, Any]]:
    """That of the door, and those with its id from elsewhere; it may come a little after its answer."""
    event, key, place = LINES[door]
    async with asyncio.timeout(5):
        while True:
            told = [json.loads(line) for line in log.getvalue().splitlines()]
            calls = [line for line in told if line["event"].endswith(".call")]
            for line in calls:
                # A worker's own line of a Generate looks like a router's, but knows of no retries.
                is_here = (line["event"], line.get(key)) == (event, place)
                if is_here and (door != "gRPC" or "retries" in line):
                    return [
                        line,
                        *(one for one in calls if one is not line and _id(one) == _id(line)),
                    ]
            await asyncio.sleep(0.005)  # noqa: TID251 - a log has no event


def _id(line: dict[str, Any]) -> str:
    """Every line has one."""
    return str(line["request_id"])


@pytest.mark.parametrize(("door", "reason"), ONE_OF_EACH)
async def test_a_refusal_is_written_down_once(doors: Doors, door: str, reason: str) -> None:
    """By the process that has the door; a worker that refuses writes a line of its own, with the same id."""
    with _written() as log:
        assert isinstance(await DOORS[door](doors, ONE_OF_EACH[door, reason]), Refusal)
        lines = await _lines(log, door)
    for line in lines:
        assert (line["caller"], line["reason"]) == (CALLER, reason)
        assert line["error"]
    of_worker = ("rpc.call", "lepton.v1.InferenceService/Generate")
    assert [(line["event"], line.get("method")) for line in lines[1:]] in ([], [of_worker])


async def test_a_socket_is_no_call(doors: Doors) -> None:
    """What its generations did stands in lines of their own, not in the socket's."""
    with _written() as log:
        asked = {"text": "hello", "stop": {"max_tokens": 2}}
        assert isinstance(await DOORS["WebSocket"](doors, asked), Answered)
        line, *_ = await _lines(log, "WebSocket")
    assert (line["model"], line["worker_id"], line["caller"]) == ("tiny", "w1", CALLER)
    assert "reason" not in line
