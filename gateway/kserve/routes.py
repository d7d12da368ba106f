"""The protocol over HTTP: `/v2/…`."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request, Response

from common.errors import LeptonError, NotFound, Reason, Unavailable
from common.rpc.status import codes_of
from gateway.frame import Frame
from gateway.http.body import read_json
from gateway.http.call import call_of
from gateway.http.connected import while_connected
from gateway.http.metadata import metadata_of
from gateway.http.problem import noted
from gateway.kserve.facade import NAME, Facade
from gateway.kserve.json_tensors import infer_of, json_of, json_of_metadata
from gateway.kserve.schema import SCHEMA
from gateway.ports import Asked
from lepton.kserve.v2 import open_inference_pb2 as pb

__all__ = ["mount"]


_BODY: Final = {
    "required": True,
    "content": {"application/json": {"schema": SCHEMA}},
}


def mount(app: FastAPI, frame: Frame) -> None:
    """Adds `/v2`, `/v2/health/…` and `/v2/models/…`, the latter also with `/versions/…`."""
    facade = Facade(upstream=frame.upstream, is_ready=frame.is_ready, version=frame.version)

    async def live(request: Request) -> dict[str, Any]:
        return {"live": True}

    async def ready(request: Request) -> dict[str, Any]:
        if not (await facade.server_ready()).ready:
            raise Unavailable("no calls are taken now", reason=Reason.STARTING, retry_after_s=1.0)
        return {"ready": True}

    async def server(request: Request) -> dict[str, Any]:
        return {"name": NAME, "version": frame.version, "extensions": []}

    async def model(request: Request) -> dict[str, Any]:
        which = pb.ModelMetadataRequest(**_named(request))
        return json_of_metadata(await facade.model_metadata(which, _asked(request)))

    async def model_ready(request: Request) -> dict[str, Any]:
        which = pb.ModelReadyRequest(**_named(request))
        if not (await facade.model_ready(which, _asked(request))).ready:
            raise NotFound(
                "no worker serves this model", field="name"
            )  # the protocol asks for a 4xx
        return {"name": which.name, "ready": True}

    async def infer(request: Request) -> dict[str, Any]:
        named = _named(request)
        body = await read_json(request, frame.settings)
        asked = infer_of(body, model=named["name"], version=named["version"])
        call = call_of(request.scope)
        async with while_connected(request.receive):
            response = await facade.infer(asked, _asked(request), request_id=call.request_id)
        return json_of(response)

    def add(path: str, handler: Handler, summary: str, **options: Any) -> None:
        options.setdefault("openapi_extra", {})["parameters"] = _parameters(path)
        app.add_api_route(path, _spoken(handler), tags=["KServe v2"], summary=summary, **options)

    add("/v2", server, "What answers here")
    add("/v2/health/live", live, "Does the process live?")
    add("/v2/health/ready", ready, "Are calls taken?")
    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        add(path, model, "Tensors of a model")
        add(f"{path}/ready", model_ready, "Does a worker serve the model now?")
        add(
            f"{path}/infer",
            infer,
            "One answer, whole",
            methods=["POST"],
            openapi_extra={"requestBody": _BODY},
        )


Handler = Callable[[Request], Awaitable[dict[str, Any]]]


def _spoken(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """The handler, with its errors in the shape of the protocol: `error` is the message, the rest is ours."""

    async def answer(request: Request) -> Response:
        try:
            return _json(await handler(request), 200)
        except LeptonError as error:
            noted(error)
            told = {
                "error": error.message,
                "code": codes_of(error).grpc.name,
                "reason": error.reason.value,
                "field": error.field,
                "request_id": call_of(request.scope).request_id,
            }
            response = _json(told, codes_of(error).http)
            if error.retry_after_s is not None:
                response.headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
            return response

    return answer


def _parameters(path: str) -> list[dict[str, Any]]:
    """What a path leaves open, for the page of the interface."""
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", path)
    ]


def _json(value: dict[str, Any], status: int) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _named(request: Request) -> dict[str, str]:
    path = request.path_params
    return {"name": path["name"], "version": path.get("version", "")}


def _asked(request: Request) -> Asked:
    return Asked(metadata=metadata_of(request.headers))
