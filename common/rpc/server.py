"""A gRPC server from bind to drain, with health and reflection always on it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import grpc
from grpc_health.v1 import health_pb2_grpc

from common.address import join_address
from common.errors import Conflict, Reason
from common.rpc.channel import KEEPALIVE_MS
from common.rpc.handlers import raw_unary_stream, raw_unary_unary
from common.rpc.health import SERVICE_NAME as HEALTH_SERVICE
from common.rpc.health import Health
from common.rpc.reflection import add_reflection

__all__ = ["RpcServer", "check_free", "raw_unary_stream", "raw_unary_unary", "server_options"]

CALLS_MAX: Final = 10_000
"""Calls at once, over all connections and per connection (a router sends all its calls over one). Admission bounds
the work long before; this bounds the memory of a server that is flooded."""


PEER_SILENCE_S_MAX: Final = 30.0
"""After so many seconds without a sign of life from a peer its connection, and with it its calls, are given up."""


def server_options(
    *,
    message_bytes_max: int,
    so_reuseport: bool = False,
    connections_max: int | None = None,
    calls_per_connection_max: int = CALLS_MAX,
    peer_silence_s_max: float = PEER_SILENCE_S_MAX,
) -> list[tuple[str, int]]:
    """Options of every server, each with its why."""
    connections = (
        []
        if connections_max is None
        else [("grpc.max_allowed_incoming_connections", connections_max)]
    )
    return [
        *connections,
        # grpcio binds a used port silently by default, and the kernel then deals calls to both processes.
        ("grpc.so_reuseport", int(so_reuseport)),
        ("grpc.max_receive_message_length", message_bytes_max),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", calls_per_connection_max),
        # Peers of ours ping every 10 s, also between calls; below half of that a client is called abusive.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
        ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # Clients that vanished without a FIN must not keep the engine busy.
        ("grpc.keepalive_time_ms", round(1e3 * peer_silence_s_max / 2)),
        ("grpc.keepalive_timeout_ms", round(1e3 * peer_silence_s_max / 2)),
        # Without it a ping may take a minute, whatever the line above says.
        ("grpc.http2.ping_timeout_ms", round(1e3 * peer_silence_s_max / 2)),
    ]


@final
class RpcServer:
    """One port with services, `grpc.health.v1.Health` and server reflection.

    Health is NOT_SERVING (for "" and for every service) until `set_serving(True)`. Interceptors run in the given
    order, the first outermost: tracing, call log, errors.

    Resources: `stop` must be awaited after `start`. Errors: see `start`.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        message_bytes_max: int,
        so_reuseport: bool = False,
        connections_max: int | None = None,
        calls_per_connection_max: int = CALLS_MAX,
        peer_silence_s_max: float = PEER_SILENCE_S_MAX,
    ) -> None:
        self._host = host
        self._port = port
        self._interceptors = tuple(interceptors)
        self._options = server_options(
            message_bytes_max=message_bytes_max,
            so_reuseport=so_reuseport,
            connections_max=connections_max,
            calls_per_connection_max=calls_per_connection_max,
            peer_silence_s_max=peer_silence_s_max,
        )
        self._so_reuseport = so_reuseport
        self._services: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
        self._health: Health | None = None
        self._serving = False
        self._server: grpc.aio.Server | None = None

    def __repr__(self) -> str:
        state = "running" if self._server else "stopped"
        return f"RpcServer({self._host}:{self._port}, {sorted(self._services)}, {state})"

    @property
    def port(self) -> int:
        """The bound port once started, the wanted one before."""
        return self._port

    def add_service(
        self, name: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Adds `name` (for example "lepton.v1.InferenceService") with its methods; before `start`."""
        if self._server is not None:
            raise RuntimeError("services are added before the server starts")
        self._services[name] = dict(handlers)

    async def start(self) -> int:
        """Binds and serves; returns the bound port.

        Raises `Conflict(PORT_IN_USE)` when somebody listens there, `Conflict(SETTING_INVALID)` when the address is not
        this machine's or not allowed to us.
        """
        host = "127.0.0.1" if self._host == "localhost" else self._host.strip("[]")
        if not self._so_reuseport:
            check_free(host, self._port)
        server = grpc.aio.server(
            interceptors=self._interceptors,
            options=self._options,
            maximum_concurrent_rpcs=CALLS_MAX,
        )
        for name, handlers in self._services.items():
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
        self._health = Health(self._services)
        self._health.set_serving(serving=self._serving)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        add_reflection(server, (*self._services, HEALTH_SERVICE))
        address = join_address(host, self._port)
        try:
            port = server.add_insecure_port(address)
        except RuntimeError as error:
            await server.stop(None)
            raise _in_use(host, self._port) from error
        await server.start()
        self._server, self._port = server, port
        return port

    def set_serving(self, serving: bool) -> None:  # noqa: FBT001 - reads well at the call
        """What health says from now on, for "" and for every service. Nothing is refused because of it."""
        self._serving = serving
        if self._health is not None:
            self._health.set_serving(serving=serving)

    async def stop(self, grace_s: float) -> None:
        """Health NOT_SERVING, no new calls, running ones get `grace_s` seconds, then they are cancelled.

        Streams that only end with the process must be ended by their owner first, or they use up the grace.
        Safe to call twice and without `start`.
        """
        self._serving = False
        if self._health is not None:
            self._health.close()
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace_s)


def check_free(host: str, port: int) -> None:
    """Binds and lets go, for an error that says what is wrong (gRPC's own does not).

    Raises as `RpcServer.start`.

    A name may stand for several addresses: one that is taken is an error, one that is not ours is not while
    another is.
    """
    refusal: OSError | None = None
    bound = False
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise _not_ours(host, port, error) from error
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                bound = True
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise _in_use(host, port) from error
            refusal = error
    if refusal is not None and not bound:
        raise _not_ours(host, port, refusal) from refusal


def _not_ours(host: str, port: int, error: OSError) -> Conflict:
    return Conflict(
        f"cannot listen on {host}:{port}: {error.strerror or error}", reason=Reason.SETTING_INVALID
    )


def _in_use(host: str, port: int) -> Conflict:
    return Conflict(
        f"{host}:{port} is already in use; stop what listens there or choose another port with --port (0: any)",
        reason=Reason.PORT_IN_USE,
    )
