"""The HTTP application: every door on one port, behind the same checks."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

import gateway.kserve.routes
import gateway.openai.routes
import gateway.page.routes
import gateway.probes
import gateway.reference
import gateway.websocket.routes
from common.errors import LeptonError
from gateway.frame import Frame
from gateway.http.call import CallMiddleware
from gateway.http.guard import Guard
from gateway.http.head import HeadAsGet
from gateway.http.problem import answer_error, answer_http_exception, answer_unexpected

__all__ = ["make_app"]


def make_app(frame: Frame) -> ASGIApp:
    """The ASGI application of a process. It has no lifespan: whoever serves it owns what it uses.

    Order, outermost first: span, log line and ids of the call; who may call; routes and their errors.
    """
    app = FastAPI(
        title="Lepton",
        version=frame.version,
        summary="Text generation on a cluster of your own, in the dialect of OpenAI.",
        docs_url=None,  # FastAPI's pages load scripts from other servers
        redoc_url=None,
        openapi_url=None,
    )
    app.add_exception_handler(LeptonError, answer_error)
    app.add_exception_handler(HTTPException, answer_http_exception)
    app.add_exception_handler(Exception, answer_unexpected)
    # In the order in which /docs shows them.
    gateway.openai.routes.mount(app, frame)
    gateway.websocket.routes.mount(app, frame)
    gateway.kserve.routes.mount(app, frame)
    gateway.page.routes.mount(app, frame)
    gateway.probes.mount(app, frame)
    gateway.reference.mount(app)
    return CallMiddleware(Guard(HeadAsGet(app), frame.settings), frame)
