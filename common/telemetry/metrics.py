"""The HTTP port of a process for machines that watch it: /metrics, /livez, /readyz.

It runs in threads of its own, so that it answers while the event loop is busy; that it answers says the process lives,
`/readyz` says whether it takes work. Few connections at once, each with a time limit: a scraper that stalls costs
a thread for seconds, never the process.
"""

from __future__ import annotations

import errno
import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from common.address import join_address
from common.errors import Conflict, Reason
from common.logs import get_logger

__all__ = ["MetricsServer"]

CONNECTIONS_MAX: Final = 16
"""Connections answered at once; a further one is closed unanswered."""

REQUEST_S_MAX: Final = 5.0
"""Longest silence of a connection, seconds."""

log = get_logger(__name__)


@final
class MetricsServer:
    """Serves one registry.

    `health` is called from a thread of this server for each /readyz; it must be quick and thread-safe (reading
    an attribute is). It raising counts as not ready.
    """

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, health: Callable[[], bool]
    ) -> None:
        self._host = "127.0.0.1" if host == "localhost" else host.strip("[]")
        self._port = port
        self._registry = registry
        self._health = health
        self._http: _Http | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> int:
        """Binds and serves; returns the bound port (useful when asked for port 0).

        Raises `Conflict(PORT_IN_USE)`, or `Conflict(SETTING_INVALID)` for an address that is not ours.
        """
        try:
            http = _Http(self._host, self._port, self._registry, self._health)
        except OSError as error:
            where = join_address(self._host, self._port)
            if error.errno == errno.EADDRINUSE:
                raise Conflict(
                    f"{where} is already in use; stop what listens there or choose another metrics port (0: any)",
                    reason=Reason.PORT_IN_USE,
                ) from error
            raise Conflict(
                f"cannot listen on {where}: {error.strerror or error}",
                reason=Reason.SETTING_INVALID,
            ) from error
        self._http = http
        self._port = int(http.server_address[1])
        self._thread = threading.Thread(
            target=http.serve_forever, kwargs={"poll_interval": 0.1}, name="metrics", daemon=True
        )
        self._thread.start()
        return self._port

    def stop(self) -> None:
        """Stops answering and releases the port. Safe to call twice and without `start`."""
        http, self._http = self._http, None
        thread, self._thread = self._thread, None
        if http is not None and thread is not None:
            http.shutdown()
            thread.join()
            http.server_close()


@final
class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, health: Callable[[], bool]
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.registry = registry
        self.health = health
        self._free = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer's own asks DNS for the host's name, which can take seconds.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread was to be had
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that hangs up is nobody's error."""
        log.debug("metrics.connection_failed", peer=str(client_address))


@final
class _Handler(BaseHTTPRequestHandler):
    server: _Http
    server_version = "lepton"
    sys_version = ""
    timeout = REQUEST_S_MAX

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer_metrics()
        elif path == "/livez":
            self._answer_json(200, {"live": True})
        elif path == "/readyz":
            ready = self._is_ready()
            self._answer_json(200 if ready else 503, {"ready": ready})
        else:
            self._answer_json(
                404, {"error": "not found", "paths": ["/metrics", "/livez", "/readyz"]}
            )

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Scrapes are not worth a line."""

    def _answer_metrics(self) -> None:
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        try:
            body = encode(self.server.registry)
        except Exception:  # a gauge asks the process when it is scraped, and that may fail
            log.exception("metrics.scrape_failed")
            self._answer_json(500, {"error": "a metric cannot be read; the log says which"})
        else:
            self._answer(200, content_type, body)

    def _is_ready(self) -> bool:
        try:
            return bool(self.server.health())
        except Exception:
            log.exception("metrics.health_check_failed")
            return False

    def _answer_json(self, status: int, body: dict[str, object]) -> None:
        self._answer(status, "application/json", json.dumps(body).encode() + b"\n")

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
