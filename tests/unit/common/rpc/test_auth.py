"""Who counts as a router."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from pydantic import SecretStr

from common.cluster import ClusterSettings
from common.errors import Conflict
from common.rpc.auth import cluster_token_metadata, is_router
from common.rpc.metadata import CLUSTER_TOKEN_KEY

CLOSED = ClusterSettings(token=SecretStr("s3cret-1"))
OPEN = ClusterSettings()


class Caller:
    def __init__(
        self,
        *metadata: tuple[str, str | bytes],
        peer: str = "ipv4:127.0.0.1:4000",
    ) -> None:
        self._metadata = metadata
        self._peer = peer

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]]:
        return self._metadata

    def peer(self) -> str:
        return self._peer


def test_the_token_that_a_router_shows_is_the_token_that_a_worker_wants() -> None:
    assert is_router(Caller(*cluster_token_metadata(CLOSED.token)), CLOSED)
    assert is_router(Caller((CLUSTER_TOKEN_KEY, b"s3cret-1")), CLOSED)


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        ((CLUSTER_TOKEN_KEY, ""),),
        ((CLUSTER_TOKEN_KEY, "s3cret"),),
        ((CLUSTER_TOKEN_KEY, "s3cret-1 "),),
        ((CLUSTER_TOKEN_KEY, "\udcff"),),
        ((CLUSTER_TOKEN_KEY, "s3cret-1"), (CLUSTER_TOKEN_KEY, "s3cret-1")),
        (("other", "s3cret-1"),),
    ],
)
def test_anything_else_is_no_router_even_from_this_machine(
    metadata: tuple[tuple[str, str], ...],
) -> None:
    assert not is_router(Caller(*metadata), CLOSED)


@pytest.mark.parametrize(
    ("peer", "local"),
    [
        ("ipv4:127.0.0.1:4000", True),
        ("ipv6:[::1]:4000", True),
        ("ipv6:%5B::1%5D:4000", True),
        ("ipv6:[::ffff:127.0.0.1]:4000", True),
        ("unix:/run/lepton.sock", True),
        ("ipv4:10.0.0.7:4000", False),
        ("ipv6:[2001:db8::1]:4000", False),
        ("", False),
        ("localhost", False),
        ("dns:localhost:4000", False),
    ],
)
def test_a_cluster_without_a_token_trusts_this_machine_only(peer: str, *, local: bool) -> None:
    assert is_router(Caller(peer=peer), OPEN) is local


@pytest.mark.parametrize("token", ["ü", "a\nb", " a", "a "])
def test_a_token_that_metadata_cannot_carry_is_refused_at_start(token: str) -> None:
    with pytest.raises(Conflict, match=r"cluster\.token"):
        cluster_token_metadata(SecretStr(token))


def test_an_empty_token_is_not_sent() -> None:
    assert cluster_token_metadata(OPEN.token) == ()
