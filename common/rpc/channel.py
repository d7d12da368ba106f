"""Client channels: every option in one place, each with its why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import grpc

__all__ = ["KEEPALIVE_MS", "channel_options", "open_channel"]

KEEPALIVE_MS: Final = 10_000
"""Between pings on an idle or silent connection. Servers must allow half of it (see `common.rpc.server`)."""

STREAM_WINDOW_BYTES: Final = 32 << 10
"""Bytes that a peer may send on one stream before somebody has read them (HTTP/2's window)."""

CONNECT_MS_MAX: Final = 5_000
"""Longest try to connect, milliseconds. Who does not want to wait that long has a deadline of its own."""


def channel_options(*, message_bytes_max: int) -> list[tuple[str, int]]:
    """Options of a channel inside the cluster."""
    return [
        # What a stream that nobody reads may hold here. gRPC's own estimate lets it grow to megabytes, for links far
        # longer than a cluster's, and tokens are small.
        ("grpc.http2.lookahead_bytes", STREAM_WINDOW_BYTES),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.max_receive_message_length", message_bytes_max),
        # The receiver refuses what is too large, with a status that says so; we would only guess.
        ("grpc.max_send_message_length", -1),
        # A peer that vanished without a FIN is noticed within 10 + 5 s, also while no call runs.
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", 5_000),
        # Without it a ping may take a minute, whatever the line above says.
        ("grpc.http2.ping_timeout_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # A restarted worker is found again within a second, not after gRPC's two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        # Despite its name this is how long one try to connect may take. A dead process refuses at once; a busy machine
        # needs its time, and a try cut short would look like a dead one.
        ("grpc.min_reconnect_backoff_ms", CONNECT_MS_MAX),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        # Retrying is the dispatcher's decision: it knows what was sent and who is full.
        ("grpc.enable_retries", 0),
        # Channels to one address must not share a connection's back-off with an earlier, closed one.
        ("grpc.use_local_subchannel_pool", 1),
        # An http_proxy in the environment is not meant for calls inside a cluster.
        ("grpc.enable_http_proxy", 0),
    ]


def open_channel(
    address: str,
    *,
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
    message_bytes_max: int,
) -> grpc.aio.Channel:
    """A plaintext channel to `address` (host:port). Connects on first use.

    Resources: the caller closes it. Errors: none here; calls raise `grpc.aio.AioRpcError`.
    """
    return grpc.aio.insecure_channel(
        address,
        options=channel_options(message_bytes_max=message_bytes_max),
        interceptors=list(interceptors),
    )
