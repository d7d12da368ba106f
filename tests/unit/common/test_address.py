"""host:port as people and programs write it."""

from __future__ import annotations

import pytest

from common.address import join_address


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1:80"),
        ("localhost", "localhost:80"),
        ("::1", "[::1]:80"),
        ("[::1]", "[::1]:80"),
    ],
)
def test_a_port_can_be_told_from_a_host(host: str, address: str) -> None:
    assert join_address(host, 80) == address
