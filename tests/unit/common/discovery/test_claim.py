"""Is the holder of an id alive? Told from its lease alone, for every way a lease can look."""

from __future__ import annotations

import math

import pytest

from common.discovery.etcd.claim import Taken, is_alive
from common.discovery.etcd.errors import LeaseGone
from lepton.etcd.v1 import etcd_pb2 as pb
from tests.support.manual_clock import ManualClock


class FastClock(ManualClock):
    """Sleeping takes no time, and moves the clock."""

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)


class FakeLeases:
    """One lease, renewed every `renew_s` until `dies_at`, removed `lag_s` after its end. Rounds as etcd does."""

    def __init__(
        self, clock: FastClock, *, granted_s: int, age_s: float, dies_at: float, lag_s: float
    ) -> None:
        self._clock = clock
        self._granted_s = granted_s
        self._lag_s = lag_s
        self._dies_at = clock.now() + dies_at
        self._last = clock.now() - age_s

    async def time_to_live(self, lease_id: int) -> pb.LeaseTimeToLiveResponse:
        now, every_s = self._clock.now(), self._granted_s / 3
        while self._last + every_s <= min(now, self._dies_at):
            self._last += every_s
        left_s = self._last + self._granted_s - now
        if left_s < -self._lag_s:
            if lease_id % 2:
                raise LeaseGone("some releases say it so")
            return pb.LeaseTimeToLiveResponse(id=lease_id, ttl=-1)
        return pb.LeaseTimeToLiveResponse(
            id=lease_id, ttl=math.trunc(left_s), granted_ttl=self._granted_s
        )


async def look(lease_id: int = 2, **lease: float) -> tuple[bool, float]:
    clock = FastClock()
    leases = FakeLeases(clock, **{"dies_at": math.inf, "lag_s": 0.5, **lease})  # type: ignore[arg-type]
    began_at = clock.now()
    taken = Taken(lease_id=lease_id, address="127.0.0.1:1")
    alive = await is_alive(leases, clock, taken)  # type: ignore[arg-type]
    return alive, clock.now() - began_at


@pytest.mark.parametrize("granted_s", [2, 3, 5, 10, 60])
@pytest.mark.parametrize("age", [0.0, 0.1, 0.5, 0.99])
async def test_a_holder_that_renews_is_alive(granted_s: int, age: float) -> None:
    alive, waited_s = await look(granted_s=granted_s, age_s=age * granted_s / 3)
    assert alive
    assert waited_s <= granted_s / 3 + 1.5


@pytest.mark.parametrize("granted_s", [1, 2, 3, 5, 10, 60])
@pytest.mark.parametrize("age", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("lag_s", [0.0, 0.5, 2.5])
@pytest.mark.parametrize("lease_id", [2, 3])
async def test_a_holder_that_died_is_not(
    granted_s: int, age: float, lag_s: float, lease_id: int
) -> None:
    alive, waited_s = await look(
        lease_id, granted_s=granted_s, age_s=age * granted_s / 3, dies_at=-0.01, lag_s=lag_s
    )
    assert not alive
    assert waited_s <= granted_s + lag_s + 0.5


async def test_a_lease_too_short_to_tell_is_taken_for_a_living_one() -> None:
    """With one second, what is left always reads 0: the wait is bounded, and nobody is overwritten."""
    alive, waited_s = await look(granted_s=1, age_s=0.0)
    assert alive
    assert waited_s <= 7
