"""Writes of one turn leave together, in order, and none is lost at the end."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.http.gathered import GatheredTransport


class Wire:
    def __init__(self) -> None:
        self.happened: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.happened.append(data)

    def close(self) -> None:
        self.happened.append("closed")

    def abort(self) -> None:
        self.happened.append("aborted")

    def is_closing(self) -> bool:
        return "closed" in self.happened

    def pause_reading(self) -> None:
        self.happened.append("paused")


def gathered() -> tuple[Any, Wire]:
    wire: Any = Wire()
    return GatheredTransport(wire, asyncio.get_running_loop()), wire


async def a_turn() -> None:
    await asyncio.sleep(0)  # noqa: TID251 - one turn of the loop is what this is about


async def test_writes_of_a_turn_leave_as_one() -> None:
    transport, wire = gathered()
    transport.write(b"head ")
    transport.write(b"first ")
    assert wire.happened == []
    await a_turn()
    transport.write(b"second")
    await a_turn()
    await a_turn()
    assert wire.happened == [b"head first ", b"second"]


async def test_what_was_written_leaves_before_the_end() -> None:
    transport, wire = gathered()
    transport.write(b"last")
    transport.close()
    assert transport.is_closing()
    await a_turn()
    assert wire.happened == [b"last", "closed"]


async def test_what_was_written_does_not_leave_when_the_connection_is_cut() -> None:
    transport, wire = gathered()
    transport.write(b"last")
    transport.abort()
    await a_turn()
    assert wire.happened == ["aborted"]


async def test_everything_else_is_the_transports_own() -> None:
    transport, wire = gathered()
    transport.pause_reading()
    assert wire.happened == ["paused"]
