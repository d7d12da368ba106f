"""What all clients have in common: one connection that asks, counts tokens, and says when something happens."""

from __future__ import annotations

import asyncio
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, Protocol, cast, final

from loadtest.clients.words import WORD

__all__ = ["Connect", "Connection", "Hooks", "WordCount", "fail", "open_to"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What a connection calls."""

    on_first: Callable[[], None] = lambda: None
    """At the first token of an answer."""
    on_end: Callable[[Connection, int], None] = lambda _, __: None
    """At the end of an answer, with the number of its tokens."""
    on_lost: Callable[[Connection], None] = lambda _: None
    """When the connection is gone although `close` was not called."""


class Connection(asyncio.Protocol, ABC):
    """One connection of one door, by bytes."""

    def __init__(self, hooks: Hooks) -> None:
        self.hooks = hooks
        self.tokens = 0
        """That have come, over all answers."""
        self.messages = 0
        """In which they came: what the door sends as one."""
        self.transport: asyncio.Transport
        self._is_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_closed:
            self.hooks.on_lost(self)

    async def ready(self) -> None:
        """Returns when it may ask."""

    @abstractmethod
    def ask(self, prompt: str, tokens: int) -> None:
        """Begins an answer of so many tokens."""

    def close(self) -> None:
        """Breaks off what runs."""
        self._is_closed = True
        self.transport.abort()


class Connect(Protocol):
    """Opens a connection to `host:port` that is ready to ask."""

    async def __call__(self, address: str, hooks: Hooks) -> Connection:
        """Raises `OSError`."""
        ...


async def open_to(address: str, connection: Connection) -> Connection:
    """Connects and waits until it is ready. Raises `OSError`."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: connection, host, int(port))
    await connection.ready()
    return connection


def fail(why: str) -> NoReturn:
    """Ends the process: what a callback raises, an event loop merely logs."""
    sys.stderr.write(f"{why}\n")
    sys.stderr.flush()
    os._exit(1)


@final
class WordCount:
    """Counts tokens in bytes that come in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def add(self, data: bytes) -> int:
        """How many are complete with `data`."""
        data = self._rest + data
        self._rest = data[1 - len(WORD) :]
        return data.count(WORD)
