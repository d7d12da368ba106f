"""What machines ask that watch: does it live, does it take calls, what is it?"""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI, Response
from starlette.responses import JSONResponse, PlainTextResponse

from gateway.frame import Frame

__all__ = ["mount"]


_NOT_YET: Final[dict[int | str, dict[str, Any]]] = {503: {"description": "Not now"}}


def mount(app: FastAPI, frame: Frame) -> None:
    """Adds `/livez`, `/readyz`, `/health` and `/version`."""

    @app.get(
        "/livez",
        tags=["watch"],
        summary="Does the process live?",
        response_class=PlainTextResponse,
    )
    async def livez() -> Response:
        return PlainTextResponse("ok\n")

    @app.get(
        "/readyz",
        tags=["watch"],
        summary="Are calls taken?",
        response_class=PlainTextResponse,
        responses=_NOT_YET,
    )
    @app.get(
        "/health",
        tags=["watch"],
        summary="The same, by another usual name",
        response_class=PlainTextResponse,
        responses=_NOT_YET,
    )
    async def readyz() -> Response:
        if await frame.is_ready():
            return PlainTextResponse("ok\n")
        return PlainTextResponse("not ready\n", 503)

    @app.get("/version", tags=["watch"], summary="The release of Lepton that answers")
    async def version() -> Response:
        return JSONResponse({"version": frame.version})
