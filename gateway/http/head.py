"""HEAD for every path that has GET, as RFC 9110 (section 9.1) asks of servers: `curl -I`, watchers, load balancers."""

from __future__ import annotations

from typing import final

from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["HeadAsGet"]


@final
class HeadAsGet:
    """Lets routes answer HEAD as if it were GET; the server below keeps the body back."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") != "HEAD":
            await self._app(scope, receive, send)
            return
        as_get = {**scope, "method": "GET"}
        try:
            await self._app(as_get, receive, send)
        finally:
            scope.update(as_get, method="HEAD")  # logs and counts want the route that was found
