"""The routes of the WebSocket door."""

from __future__ import annotations

from functools import partial
from importlib import resources
from typing import Final

from fastapi import FastAPI, Response
from starlette.websockets import WebSocket

from common.errors import InvalidRequest, NotFound, Overloaded, Reason
from gateway.frame import Frame
from gateway.http.metadata import metadata_of
from gateway.http.problem import error_response
from gateway.http.protocol import abort
from gateway.websocket.connection import Connection

__all__ = ["SUBPROTOCOL", "mount"]

SUBPROTOCOL: Final = "lepton.v1"

_RETRY_S: Final = 1.0
_SCHEMA_TYPE: Final = "application/schema+json"


def mount(app: FastAPI, frame: Frame) -> None:
    """Adds `/v1/ws` and its schema."""
    settings = frame.settings
    schema = resources.files("gateway.websocket").joinpath("schema.json").read_bytes()
    sockets: set[WebSocket] = set()
    frame.instruments.websockets.set_function(lambda: len(sockets))

    @app.get(
        "/v1/ws/schema.json",
        tags=["websocket"],
        summary="JSON schema of the messages",
        responses={200: {"content": {_SCHEMA_TYPE: {}}}},
    )
    async def messages_schema() -> Response:
        return Response(schema, media_type=_SCHEMA_TYPE)

    @app.get("/v1/ws", include_in_schema=False)
    async def without_upgrade() -> Response:
        raise NotFound(
            "this path speaks WebSocket: open it as ws://…/v1/ws (docs/websocket.md has an example)",
            reason=Reason.ROUTE_NOT_FOUND,
        )

    @app.websocket("/v1/ws")
    async def converse(socket: WebSocket) -> None:
        offered = socket.scope["subprotocols"]
        if offered and SUBPROTOCOL not in offered:
            refusal: InvalidRequest | Overloaded = InvalidRequest(
                f"the subprotocol here is {SUBPROTOCOL}", field="sec-websocket-protocol"
            )
            await socket.send_denial_response(error_response(refusal))
            return
        if len(sockets) >= settings.sockets_max:
            refusal = Overloaded(
                f"{settings.sockets_max} sockets are open, as many as may (setting gateway.sockets_max)",
                reason=Reason.QUEUE_FULL,
                retry_after_s=_RETRY_S,
            )
            await socket.send_denial_response(error_response(refusal))
            return
        sockets.add(socket)
        try:
            await socket.accept(SUBPROTOCOL if offered else None)
            await Connection(
                socket,
                frame.upstream,
                settings,
                metadata=metadata_of(socket.headers),
                abort=partial(abort, socket.scope),
            ).run()
        finally:
            sockets.discard(socket)
