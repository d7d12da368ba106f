"""Ports that are free, taken, or cannot be had."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator

import pytest

from agent.ports import check_port, free_port, is_free, owner_of
from common.errors import Conflict, Reason


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_port_in_use_is_refused_with_its_owner_and_a_way_out(taken: int) -> None:
    with pytest.raises(Conflict) as refused:
        check_port("127.0.0.1", taken, flag="--port")
    assert refused.value.reason is Reason.PORT_IN_USE
    assert str(taken) in refused.value.message
    assert f"(pid {os.getpid()})" in refused.value.message
    assert "--port" in refused.value.message


def test_a_server_that_shares_its_port_counts_as_in_use() -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert not is_free("127.0.0.1", server.getsockname()[1])


def test_free_ports_pass() -> None:
    port = free_port()
    assert is_free("127.0.0.1", port)
    check_port("127.0.0.1", port, flag="--port")
    check_port("127.0.0.1", 0, flag="--port")
    assert owner_of(port) is None


def test_a_port_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who chooses several has not yet bound the first when it chooses the second."""
    first = free_port()
    drawn = iter([first, first, *range(20_000, 20_050)])
    monkeypatch.setattr(random, "randrange", lambda *_: next(drawn))
    assert free_port() != first


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(Conflict, match="cannot listen"):
        check_port(host, 50051, flag="--port")


def test_chosen_ports_are_below_those_of_outgoing_connections() -> None:
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:  # noqa: PTH123 - /proc
        low = int(file.read().split()[0])
    if low <= 20_000:
        pytest.skip("this machine leaves no room below the ephemeral ports")
    assert all(20_000 <= free_port() < low for _ in range(5))
