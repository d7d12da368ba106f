"""A lease is over by our own clock, early rather than late."""

from __future__ import annotations

import pytest

from common.discovery.etcd.errors import LeaseGone, Unreachable
from common.discovery.etcd.lease import Lease
from lepton.etcd.v1 import etcd_pb2 as pb
from tests.support.manual_clock import ManualClock


class FakeClient:
    """Answers `slow_s` after it was asked."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.slow_s = 0.0
        self.ttl_s = 6
        self.away = False

    async def grant(self, ttl_s: int) -> pb.LeaseGrantResponse:
        self.clock.advance(self.slow_s)
        return pb.LeaseGrantResponse(id=7, ttl=max(ttl_s, self.ttl_s))

    async def keep_alive(self, lease_id: int) -> int:
        assert lease_id == 7
        self.clock.advance(self.slow_s)
        if self.away:
            raise Unreachable("away")
        return self.ttl_s


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def client(clock: ManualClock) -> FakeClient:
    return FakeClient(clock)


async def test_its_life_is_what_the_server_gave(clock: ManualClock, client: FakeClient) -> None:
    lease = await Lease.grant(client, clock, ttl_s=2)  # type: ignore[arg-type]
    assert lease.renew_every_s == pytest.approx(2)  # a third of 6
    clock.advance(5.9)
    assert not lease.is_over
    clock.advance(0.1)
    assert lease.is_over


async def test_it_counts_from_the_question_not_the_answer(
    clock: ManualClock, client: FakeClient
) -> None:
    client.slow_s = 1.5
    lease = await Lease.grant(client, clock, ttl_s=6)  # type: ignore[arg-type]
    clock.advance(4.4)
    assert not lease.is_over
    await lease.renew()  # begins 5.9 after the first question, is answered at 7.4
    clock.advance(4.4)
    assert not lease.is_over
    clock.advance(0.2)
    assert lease.is_over


async def test_a_failed_renewal_leaves_the_end_where_it_was(
    clock: ManualClock, client: FakeClient
) -> None:
    lease = await Lease.grant(client, clock, ttl_s=6)  # type: ignore[arg-type]
    clock.advance(4)
    client.away = True
    with pytest.raises(Unreachable):
        await lease.renew()
    assert not lease.is_over
    clock.advance(2)
    assert lease.is_over


async def test_a_forgotten_lease_is_over_at_once(clock: ManualClock, client: FakeClient) -> None:
    lease = await Lease.grant(client, clock, ttl_s=6)  # type: ignore[arg-type]
    client.ttl_s = 0
    with pytest.raises(LeaseGone):
        await lease.renew()
    assert lease.is_over


async def test_a_jump_of_the_wall_clock_means_nothing(
    clock: ManualClock, client: FakeClient
) -> None:
    lease = await Lease.grant(client, clock, ttl_s=6)  # type: ignore[arg-type]
    clock.set_wall(clock.wall() + 3600)
    assert not lease.is_over
