"""`grpc.health.v1.Health`: one switch for the whole server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final, final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

__all__ = ["SERVICE_NAME", "Health"]

SERVICE_NAME: Final[str] = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN: Final = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@final
class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the base has no types
    """Answers for "" and every service of `services` with the same state, NOT_SERVING at first.

    Belongs to one event loop; `set_serving` is called on it and does not block.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset({"", SERVICE_NAME, *services})
        self._serving = False
        self._closed = False
        self._changed = asyncio.Event()

    def set_serving(self, *, serving: bool) -> None:
        if serving != self._serving:
            self._serving = serving
            self._tell()

    def close(self) -> None:
        """NOT_SERVING from now on, and the end of every watch: none may hold up the end of the server."""
        self._serving, self._closed = False, True
        self._tell()

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name of the method on the wire
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r} here")
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def List(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name of the method on the wire
        statuses = {
            service: health_pb2.HealthCheckResponse(status=self._status(service))
            for service in self._services
        }
        return health_pb2.HealthListResponse(statuses=statuses)

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802 - the name of the method on the wire
        """Writes the state at once and after each change; a state that flips back unseen is not written.

        Ends as UNAVAILABLE when the server stops.
        """
        written = None
        while True:
            changed = self._changed
            status = self._status(request.service)
            if status != written:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                written = status
            if self._closed:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the server stops")
            await changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _status(self, service: str) -> Any:
        if service not in self._services:
            return _UNKNOWN
        return _SERVING if self._serving else _NOT_SERVING
