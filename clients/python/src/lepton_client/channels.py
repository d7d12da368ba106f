"""Channels to routers and workers: options with their why, and no more of them than allowed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar, final

import grpc

__all__ = ["OPTIONS", "ChannelPool", "tls"]

_CHANNELS_MAX: Final = 256
"""Routers are few; workers that direct mode meets come and go."""

OPTIONS: Final[list[tuple[str, int]]] = [
    ("grpc.max_receive_message_length", 64 << 20),
    # The cluster refuses what is too large, with a status that says so.
    ("grpc.max_send_message_length", -1),
    # A peer that vanished without a word is noticed within 15 s, also while no call runs.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A router that comes back is found within a second, not after gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Despite its name: how long one try to connect may take.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    # Retrying is this package's decision: it knows what has come.
    ("grpc.enable_retries", 0),
    # A client's connections and their back-off are its own, not those of another client of this process.
    ("grpc.use_local_subchannel_pool", 1),
    # An http_proxy in the environment is not meant for a cluster.
    ("grpc.enable_http_proxy", 0),
]

ChannelT = TypeVar("ChannelT")


@final
class ChannelPool(Generic[ChannelT]):
    """One channel per address, made on first use. Safe between threads; whoever owns the pool closes what it lists."""

    def __init__(
        self, make: Callable[[str], ChannelT], *, channels_max: int = _CHANNELS_MAX
    ) -> None:
        self._make = make
        self._channels_max = channels_max
        self._channels: OrderedDict[str, ChannelT] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, address: str) -> ChannelT:
        """The channel. Beyond the bound the one asked for longest ago is dropped; a stream that it still carries may
        break, and moves to another worker like any other.
        """
        with self._lock:
            channel = self._channels.get(address)
            if channel is None:
                channel = self._channels[address] = self._make(address)
                while len(self._channels) > self._channels_max:
                    self._channels.popitem(last=False)
            self._channels.move_to_end(address)
            return channel

    def drain(self) -> list[ChannelT]:
        """All of them; the pool is empty afterwards."""
        with self._lock:
            channels = list(self._channels.values())
            self._channels.clear()
            return channels


def tls(
    *,
    ca: bytes | None = None,
    certificate: bytes | None = None,
    key: bytes | None = None,
) -> grpc.ChannelCredentials:
    """TLS with PEM bytes: `ca` to trust (default: gRPC's own roots), `certificate` and `key` to show who we are."""
    return grpc.ssl_channel_credentials(ca, key, certificate)
