"""The page and what it reads, over HTTP from a real router, and from a gateway that stands before one."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
from opentelemetry.sdk.trace import TracerProvider

from common.clock import SystemClock
from common.telemetry.setup import Telemetry
from gateway.settings import GatewaySettings
from gateway.upstream.listed import ListedCluster
from gateway.upstream.routers import Routers
from router.core.endpoint import EndpointState
from tests.support.fake_worker import FakeWorker
from tests.support.small_cluster import small_cluster

TRACE = "0af7651916cd43dd8448eb211c80319c"


async def test_the_page_is_there_with_all_that_it_names() -> None:
    async with (
        small_cluster(FakeWorker(), gateway=GatewaySettings(port=0)) as cluster,
        httpx2.AsyncClient(base_url=cluster.http) as http,
    ):
        page = await http.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        named = [part.split('"')[0] for part in page.text.split('"/page/')[1:]]
        found = await asyncio.gather(*(http.get(f"/page/{name}") for name in named))
        assert {response.status_code for response in found} == {200}
        assert (await http.head("/")).status_code == 200
        kept = {"if-none-match": page.headers["etag"]}
        assert (await http.get("/", headers=kept)).status_code == 304
        for name in (
            "none.js",
            "../routes.py",
            "..%2froutes.py",
            "%2e%2e/assets.py",
            "page.css%00",
        ):
            refused = await http.get(f"/page/{name}")
            assert refused.status_code == 404
            assert refused.json()["error"]["code"] == "route_not_found"


async def test_the_cluster_is_told_as_it_is_now() -> None:
    async with (
        small_cluster(FakeWorker(), gateway=GatewaySettings(port=0)) as cluster,
        httpx2.AsyncClient(base_url=cluster.http) as http,
    ):
        told = (await http.get("/api/cluster")).json()
        (worker_id,) = cluster.workers
        assert [(one["id"], one["state"]) for one in told["workers"]] == [(worker_id, "ready")]
        assert [one["model"] for one in told["models"]] == ["tiny"]
        assert told["stale_s"] is None
        await cluster.workers[worker_id].stop()
        await cluster.until_state(worker_id, EndpointState.LOST)
        told = (await http.get("/api/cluster")).json()
        assert (told["workers"][0]["state"], told["models"]) == ("lost", [])


@pytest.mark.parametrize(
    ("trace_id", "status", "code"),
    [(TRACE, 404, "trace_not_found"), ("latest", 400, "field_malformed")],
)
async def test_traces_that_cannot_be_shown_are_refused_by_name(
    trace_id: str, status: int, code: str
) -> None:
    async with (
        small_cluster(FakeWorker(), gateway=GatewaySettings(port=0)) as cluster,
        httpx2.AsyncClient(base_url=cluster.http) as http,
    ):
        refused = await http.get(f"/api/traces/{trace_id}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)


async def test_an_operator_can_leave_the_page_out() -> None:
    async with (
        small_cluster(FakeWorker(), gateway=GatewaySettings(port=0, page=False)) as cluster,
        httpx2.AsyncClient(base_url=cluster.http) as http,
    ):
        for path in ("/", "/page/main.js", "/api/cluster", f"/api/traces/{TRACE}"):
            assert (await http.get(path)).status_code == 404
        assert (await http.get("/livez")).status_code == 200


async def test_a_gateway_before_routers_knows_models_and_no_workers() -> None:
    tracer = Telemetry(TracerProvider(), None, shutdown_s_max=1.0).tracer
    async with small_cluster(FakeWorker()) as cluster:
        routers = Routers(
            (f"127.0.0.1:{cluster.router.port}",),
            message_bytes_max=1 << 20,
            pause_s=1.0,
            tracer=tracer,
            clock=SystemClock(),
        )
        try:
            picture: Any = await ListedCluster(routers).look()
        finally:
            await routers.close()
    assert [model.model for model in picture.models] == ["tiny"]
    assert picture.workers is None
    assert json.dumps(picture.stale_s) == "null"
