"""A connection's transport on which all writes of one turn of the event loop leave together.

A system call costs several times what a token costs otherwise, and an answer writes often: its head, its first event,
then its last one and the end of its body; on a WebSocket, every generation that runs there.
"""

from __future__ import annotations

import asyncio
from typing import Any, final

__all__ = ["GatheredTransport"]


@final
class GatheredTransport:
    """Behaves like the transport it wraps. What waits here waits for less than a turn, so nothing bounds it but what
    one turn can write; from then on the bounds are the transport's own.
    """

    __slots__ = ("_loop", "_transport", "_waiting")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """See `asyncio.Transport.is_closing`."""
        return self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """See `asyncio.Transport.write`."""
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def close(self) -> None:
        """See `asyncio.Transport.close`: what was written before still leaves."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """See `asyncio.Transport.abort`."""
        self._waiting.clear()
        self._transport.abort()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._transport.write(waiting[0] if len(waiting) == 1 else b"".join(waiting))
