"""Loopback is free, everything else is asked for."""

from __future__ import annotations

import pytest

from common.errors import Conflict, Reason
from common.rpc.bind import check_bind, is_loopback


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]", "::ffff:127.0.0.1"]
)
def test_loopback_needs_no_permission(host: str) -> None:
    assert is_loopback(host)
    check_bind(host, insecure=False)


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "[::]", "10.0.0.1", "example.org", "", "::ffff:10.0.0.1", "127.0.0.1.nip.io"],
)
def test_everything_else_is_refused_with_the_way_out(host: str) -> None:
    with pytest.raises(Conflict, match=r"cluster\.insecure") as refused:
        check_bind(host, insecure=False)
    assert refused.value.reason is Reason.BIND_NOT_ALLOWED


def test_insecure_allows_it() -> None:
    check_bind("0.0.0.0", insecure=True)
