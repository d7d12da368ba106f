"""The page at `/`, and what it reads: the cluster now, and the spans of one call."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgspec
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from common.errors import NotFound, Reason
from gateway.frame import Frame
from gateway.page.assets import INDEX, load_assets, respond
from gateway.page.traces import TraceReader
from gateway.ports import ClusterPicture
from gateway.upstream.listed import ListedCluster
from lepton.v1 import types_pb2

__all__ = ["mount"]


def mount(app: FastAPI, frame: Frame) -> None:
    """Adds `/`, `/page/…`, `/api/cluster` and `/api/traces/…`, unless `gateway.page` is off."""
    if not frame.settings.page:
        return
    assets = load_assets()
    view = frame.cluster or ListedCluster(frame.upstream)
    traces = TraceReader(frame.trace_dir, frame.settings)

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return respond(assets[INDEX], request)

    @app.get("/page/{name}", include_in_schema=False)
    async def file(name: str, request: Request) -> Response:
        if name not in assets:
            raise NotFound("the page has no such file", reason=Reason.ROUTE_NOT_FOUND)
        return respond(assets[name], request)

    @app.get(
        "/api/cluster",
        tags=["watch"],
        summary="Workers, models and load, now",
        responses={"5XX": {"description": "No router answers"}},
    )
    async def cluster() -> Response:
        return _json(_plain(await view.look()))

    @app.get(
        "/api/traces/{trace_id}",
        tags=["watch"],
        summary="Where the time of one call went",
        responses={"4XX": {"description": "No trace id, or no such trace"}},
    )
    async def trace(trace_id: str) -> Response:
        return _json(await traces.read(trace_id))


def _plain(picture: ClusterPicture) -> dict[str, Any]:
    workers = picture.workers
    return {
        "models": [_model(model) for model in picture.models],
        "workers": None if workers is None else [asdict(worker) for worker in workers],
        "stale_s": picture.stale_s,
    }


def _model(model: types_pb2.ModelInfo) -> dict[str, Any]:
    return {
        "model": model.model,
        "revision": model.revision,
        "context_length": model.context_length,
        "num_workers": model.num_workers,
    }


def _json(value: Any) -> Response:
    body = msgspec.json.encode(value)
    return Response(body, media_type="application/json", headers={"cache-control": "no-store"})
