"""The routes of the OpenAI dialect."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import request_response

from gateway.frame import Frame
from gateway.openai.chat import ChatDoor
from gateway.openai.chunks import encode
from gateway.openai.idempotency import IDEMPOTENCY_HEADER
from gateway.openai.model_list import ModelList
from gateway.openai.text import TextDoor
from gateway.openai.tokens import TokenDoor

__all__ = ["mount"]

_JSON: Final = "application/json"
_SSE: Final = "text/event-stream"
_STRAIGHT: Final = frozenset({"/v1/chat/completions", "/v1/completions"})
"""Asked all the time."""
_KEY: Final = {
    "name": IDEMPOTENCY_HEADER,
    "in": "header",
    "description": "A second request with the key joins the first one; as lepton.idempotency_key.",
    "schema": {"type": "string", "maxLength": 128},
}


def mount(app: FastAPI, frame: Frame) -> None:
    """Adds `/v1/…`, `/tokenize` and `/detokenize`."""
    models = ModelList(frame.upstream, frame.clock)
    chat, text, tokens = ChatDoor(frame, models), TextDoor(frame), TokenDoor(frame)

    @app.post(
        "/v1/chat/completions",
        tags=["generate"],
        summary="Answer a conversation, whole or as a stream",
        openapi_extra=_takes("ChatRequest", _KEY),
        responses=_gives("ChatCompletion", streams=True),
    )
    async def chat_completions(request: Request) -> Response:
        return await chat(request)

    @app.post(
        "/v1/completions",
        tags=["generate"],
        summary="Continue texts, whole or as a stream",
        openapi_extra=_takes("CompletionRequest", _KEY),
        responses=_gives("Completion", streams=True),
    )
    async def completions(request: Request) -> Response:
        return await text(request)

    @app.get(
        "/v1/models",
        tags=["models"],
        summary="What can be asked now",
        responses=_gives("ModelPage"),
    )
    async def list_models() -> Response:
        page = {"object": "list", "data": await models.objects()}
        return Response(encode(page), media_type=_JSON)

    @app.get(
        "/v1/models/{model}",
        tags=["models"],
        summary="One of them",
        responses=_gives("Model"),
    )
    async def get_model(model: str) -> Response:
        return Response(encode(await models.object(model)), media_type=_JSON)

    @app.post(
        "/tokenize",
        tags=["tokens"],
        summary="The token ids that a completion or chat would see",
        openapi_extra=_takes("TokenizeRequest"),
        responses=_gives("Tokens"),
    )
    async def tokenize(request: Request) -> Response:
        return await tokens.tokenize(request)

    @app.post(
        "/detokenize",
        tags=["tokens"],
        summary="The text that token ids stand for",
        openapi_extra=_takes("DetokenizeRequest"),
        responses=_gives("Text"),
    )
    async def detokenize(request: Request) -> Response:
        return await tokens.detokenize(request)

    for route in app.routes:
        if isinstance(route, APIRoute) and route.path in _STRAIGHT:
            # FastAPI describes it; what it does before an endpoint is for arguments, and here is none but the request.
            route.app = request_response(route.endpoint)


def _takes(name: str, *headers: dict[str, Any]) -> dict[str, Any]:
    content = {_JSON: {"schema": _ref(name)}}
    body = {"requestBody": {"required": True, "content": content}}
    return {**body, "parameters": list(headers)} if headers else body


def _gives(name: str, *, streams: bool = False) -> dict[int | str, dict[str, Any]]:
    content: dict[str, Any] = {_JSON: {"schema": _ref(name)}}
    if streams:
        content[_SSE] = {"schema": {"type": "string"}}
    error = {"description": "Refused or failed", "content": {_JSON: {"schema": _ref("Error")}}}
    return {200: {"description": "The answer", "content": content}, "4XX": error, "5XX": error}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
