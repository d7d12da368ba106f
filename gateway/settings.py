"""Section `gateway`."""

from __future__ import annotations

from pydantic import Field

from common.settings import Section, StrTuple

__all__ = ["GatewaySettings"]


class GatewaySettings(Section):
    """The HTTP front door: where it listens, whom it answers, and what it reads at most."""

    in_router: bool = True
    """Whether a router opens the HTTP port itself. False: only gRPC; `lepton-gateway` may then stand before it."""
    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs `cluster.insecure`."""
    port: int = Field(default=8080, ge=0, le=65535)
    """HTTP port; 0 takes a free one."""
    routers: StrTuple = ("127.0.0.1:50051",)
    """Routers that `lepton-gateway` asks, host:port, one after the other in turn."""
    router_pause_s: float = Field(default=1.0, ge=0, le=600)
    """A router that could not be reached is asked last for so long, seconds."""
    hosts: StrTuple = ()
    """Names by which browsers and clients may call this door, beside loopback names, IP addresses and the name of the
    machine. `*` allows every name, and with it DNS rebinding."""
    origins: StrTuple = ()
    """Origins of other web pages that may use the door from a browser, for example `https://chat.example.org`."""
    connections_max: int = Field(default=10_000, ge=1)
    """Most connections at once; further ones are closed."""
    headers_max: int = Field(default=100, ge=1)
    """Most headers of one request."""
    header_bytes_max: int = Field(default=32 << 10, ge=1024)
    """Largest request line and headers together, bytes."""
    header_s_max: float = Field(default=10.0, gt=0, le=600)
    """Longest that a connection may take from the first byte of a request to the end of its headers, seconds."""
    idle_s_max: int = Field(default=60, ge=1, le=3600)
    """A connection without a request is closed after so many seconds."""
    peer_silence_s_max: int = Field(default=60, ge=2, le=3600)
    """A client that answers nothing, or takes nothing of what is sent, for so long has vanished, seconds."""
    body_bytes_max: int = Field(default=8 << 20, ge=1024)
    """Largest body, bytes as sent and bytes once inflated. More than `limits.message_bytes_max`: JSON is longer than
    the message that it becomes."""
    body_chunks_max: int = Field(default=16_384, ge=1)
    """Most chunks of one body."""
    body_s_max: float = Field(default=30.0, gt=0, le=600)
    """Longest that a body may take to arrive, seconds."""
    json_depth_max: int = Field(default=100, ge=1, le=500)
    """Deepest nesting of a JSON body."""
    json_values_max: int = Field(default=262_144, ge=1024)
    """Most values in a JSON body, each element of a list counted: to read them takes time, whatever they are for."""
    prompts_max: int = Field(default=16, ge=1)
    """Most prompts in one completion request; with `n` at most `limits.choices_max` times as many answers."""
    first_event_s_max: float = Field(default=10.0, gt=0, le=3600)
    """Longest that a stream's response waits for its first event, seconds, so that a refusal has a status of its own.
    Then a comment begins it, and what goes wrong afterwards is an event of the stream."""
    heartbeat_s: float = Field(default=15.0, gt=0, le=600)
    """A stream that is silent for so long gets a comment, so that nobody on the way closes it, seconds."""
    sockets_max: int = Field(default=4096, ge=1)
    """Most WebSockets at once; further ones are refused with QUEUE_FULL."""
    socket_generations_max: int = Field(default=64, ge=1)
    """Most generations at once on one WebSocket; further ones are refused with CALLER_QUEUE_FULL."""
    socket_faults_max: int = Field(default=8, ge=0)
    """Most texts on one WebSocket that are no message: each is told so, the next one closes the socket."""
    socket_frames_max: int = Field(default=1024, ge=1)
    """Most frames that one message on a WebSocket may be cut into; it has at most `body_bytes_max` bytes."""
    socket_ping_s: float = Field(default=20.0, gt=0, le=3600)
    """A WebSocket is pinged so often, seconds, so that nobody on the way closes it."""
    socket_silence_s_max: float = Field(default=20.0, gt=0, le=3600)
    """A WebSocket whose peer has not answered a ping after so many seconds is cut."""
    slow_reader_s: float = Field(default=30.0, gt=0, le=3600)
    """A WebSocket whose peer takes nothing for so long, although something waits for it, is cut, seconds."""
    goodbye_s_max: float = Field(default=2.0, gt=0, le=60)
    """Longest that a client may take to accept the end of its stream before its connection is cut, seconds."""
    drain_s_max: float = Field(default=30.0, ge=0, le=3600)
    """`lepton-gateway`: longest that running calls may go on after SIGTERM, seconds. In a router `router.drain_s_max`
    holds."""
    page: bool = True
    """Whether the page at `/` is served, and what it shows: `/api/cluster` and `/api/traces`."""
    trace_read_bytes_max: int = Field(default=16 << 20, ge=65_536)
    """Most that is read of span files for one trace, the newest first, at most an eighth of it of one file. Bytes."""
    trace_spans_max: int = Field(default=500, ge=1)
    """Most spans of one trace that the page gets."""
    metrics_host: str = "127.0.0.1"
    """`lepton-gateway`: address of `/metrics`, `/livez` and `/readyz`."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """`lepton-gateway`: port of `/metrics`, `/livez` and `/readyz`; 0 takes a free one."""
