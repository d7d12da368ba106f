"""What machines ask that watch: does it live, does it take calls, what is it?"""

from __future__ import annotations

from fastapi import FastAPI, Response
from starlette.responses import JSONResponse

from gateway.frame import Frame

__all__ = ["mount"]


def mount(app: FastAPI, frame: Frame) -> None:
    """Adds `/livez`, `/readyz`, `/health` and `/version`."""

    @app.get("/livez", tags=["watch"], summary="Does the process live?")
    async def livez() -> Response:
        return Response("ok\n", media_type="text/plain")

    @app.get("/readyz", tags=["watch"], summary="Are calls taken?")
    @app.get("/health", tags=["watch"], summary="The same, by the name that vLLM gave it")
    async def readyz() -> Response:
        if await frame.is_ready():
            return Response("ok\n", media_type="text/plain")
        return Response("not ready\n", 503, media_type="text/plain")

    @app.get("/version", tags=["watch"], summary="The release of Lepton that answers")
    async def version() -> Response:
        return JSONResponse({"version": frame.version})
