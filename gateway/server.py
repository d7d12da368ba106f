"""An HTTP server from bind to drain, on the event loop of the process that opens it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Final, final

import uvicorn
from prometheus_client import Gauge
from starlette.types import ASGIApp

from common.clock import Clock
from common.errors import Conflict, Reason
from common.rpc.server import check_free
from gateway.http.protocol import bounded_protocol
from gateway.settings import GatewaySettings
from gateway.websocket.protocol import bounded_socket

__all__ = ["HttpServer"]

_BACKLOG: Final = 2048
_POLL_S: Final = 0.02
"""How often a drain looks whether the last response has left."""


@final
class HttpServer:
    """Serves one application on one port.

    Resources: `stop` must be awaited after `start`. Errors: see `start`. It touches no signal handlers and logs nothing
    by itself: both belong to the process.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: GatewaySettings,
        clock: Clock,
        connections: Gauge,
        *,
        shares_port: bool = False,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._shares_port = shares_port
        self._server = _Quiet(
            uvicorn.Config(
                app,
                http=bounded_protocol(settings),
                ws=bounded_socket(settings),
                ws_max_size=settings.body_bytes_max,
                ws_ping_interval=settings.socket_ping_s,
                ws_ping_timeout=settings.socket_silence_s_max,
                ws_per_message_deflate=False,  # a few bytes may inflate to anything
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # nobody has checked who may say so
                server_header=False,
                timeout_keep_alive=settings.idle_s_max,
                backlog=_BACKLOG,
            )
        )
        # What it logs of peers that speak no HTTP is theirs to choose; what goes wrong inside a call, we log.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        connections.set_function(lambda: len(self._server.server_state.connections))
        self._socket: socket.socket | None = None
        self._running: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        num = len(self._server.server_state.connections)
        return f"HttpServer({'running' if self._running else 'stopped'}, {num} connections)"

    async def start(self) -> int:
        """Binds and serves; returns the bound port.

        Raises `Conflict(PORT_IN_USE)` when somebody listens there, `Conflict(SETTING_INVALID)` when the address is not
        this machine's or not allowed to us.
        """
        host = self._settings.host
        host = "127.0.0.1" if host == "localhost" else host.strip("[]")
        self._socket = _bound(host, self._settings.port, shares_port=self._shares_port)
        port = int(self._socket.getsockname()[1])
        self._server.config.load()
        self._server.lifespan = self._server.config.lifespan_class(self._server.config)
        await self._server.startup([self._socket])
        loop = asyncio.get_running_loop()
        self._running = loop.create_task(self._server.main_loop(), name="http")
        return port

    async def stop(self, grace_s: float) -> None:
        """Takes no more connections; running responses get `grace_s` seconds, then they are cut.

        Safe to call twice and without `start`.
        """
        running, self._running = self._running, None
        if running is None:
            return
        running.cancel()
        state = self._server.server_state
        for listener in self._server.servers:
            listener.close()
        for connection in list(state.connections):
            connection.shutdown()
        until = self._clock.now() + grace_s
        while (state.connections or state.tasks) and self._clock.now() < until:
            await self._clock.sleep(_POLL_S)
        tasks = list(state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for connection in list(state.connections):
            connection.transport.abort()
        await asyncio.gather(running, return_exceptions=True)


@final
class _Quiet(uvicorn.Server):
    """uvicorn without its hand on the process's signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _bound(host: str, port: int, *, shares_port: bool) -> socket.socket:
    if not shares_port:
        check_free(host, port)
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shares_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise Conflict(
            f"cannot listen on {host}:{port}: {error.strerror or error}", reason=Reason.PORT_IN_USE
        ) from error
    bound.setblocking(False)  # noqa: FBT003 - its only parameter
    return bound
