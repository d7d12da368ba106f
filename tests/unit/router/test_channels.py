"""A channel lives as long as its worker or its last call."""

from __future__ import annotations

from typing import Any, cast

from router.upstream.channels import Channels


class FakeChannel:
    def __init__(self, address: str, closed: list[str]) -> None:
        self._address = address
        self._closed = closed

    async def close(self) -> None:
        self._closed.append(self._address)


def make() -> tuple[Channels, list[str], list[str]]:
    opened: list[str] = []
    closed: list[str] = []

    def open_channel(address: str) -> Any:
        opened.append(address)
        return FakeChannel(address, closed)

    return Channels(open_channel), opened, closed


async def test_one_channel_per_address_is_shared() -> None:
    channels, opened, _ = make()
    first = channels.acquire("a:1")
    assert channels.acquire("a:1") is first
    assert channels.acquire("b:1") is not first
    assert opened == ["a:1", "b:1"]
    assert repr(channels) == "Channels(a:1 used 2x, b:1 used 1x)"


async def test_channel_of_a_worker_that_left_closes_after_its_last_call() -> None:
    channels, _, closed = make()
    channels.acquire("a:1")
    channels.acquire("a:1")
    await channels.tidy(())
    channels.release("a:1")
    await channels.tidy(())
    assert closed == []
    channels.release("a:1")
    await channels.tidy({"a:1"})
    assert closed == [], "its worker is still there"
    await channels.tidy(())
    assert closed == ["a:1"]


async def test_worker_that_comes_back_gets_a_new_channel() -> None:
    channels, opened, _ = make()
    channels.acquire("a:1")
    channels.release("a:1")
    await channels.tidy(())
    channels.acquire("a:1")
    assert opened == ["a:1", "a:1"]


async def test_close_closes_all_whoever_uses_them() -> None:
    channels, _, closed = make()
    for address in ("a:1", "b:1"):
        channels.acquire(address)
    await channels.close()
    assert sorted(closed) == ["a:1", "b:1"]
    assert cast("Any", channels)._users == {}
