"""One channel per worker address: opened on first use, closed when the worker has left and its last call has ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import final

from opentelemetry.trace import Tracer

from common.rpc.channel import open_channel
from common.telemetry.interceptors import TracedChannel

__all__ = ["Channels", "worker_channels"]


@final
class Channels:
    """Used on the event loop. Resources: `close` must be awaited."""

    def __init__(self, open_channel: Callable[[str], TracedChannel]) -> None:
        self._open_channel = open_channel
        self._channels: dict[str, TracedChannel] = {}
        self._users: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"Channels({', '.join(f'{a} used {self._users[a]}x' for a in self._channels)})"

    def acquire(self, address: str) -> TracedChannel:
        """The channel to `address`, which stays open until as many `release` as `acquire`."""
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = self._open_channel(address)
        self._users[address] += 1
        return channel

    def release(self, address: str) -> None:
        """The user is done with the channel."""
        self._users[address] -= 1
        if not self._users[address]:
            del self._users[address]

    async def tidy(self, live: Collection[str]) -> None:
        """Closes channels that nobody uses and whose address is not in `live`."""
        for address in [a for a in self._channels if a not in live and a not in self._users]:
            await self._channels.pop(address).close()

    async def close(self) -> None:
        """Closes all; calls that still run are cancelled."""
        self._users.clear()
        await self.tidy(())


def worker_channels(tracer: Tracer, *, message_bytes_max: int) -> Channels:
    """Channels to workers, traced; `message_bytes_max` is the largest message that one may answer with."""

    def open_to(address: str) -> TracedChannel:
        channel = open_channel(address, message_bytes_max=message_bytes_max)
        return TracedChannel(channel, tracer, address=address)

    return Channels(open_to)
