"""Places that suspects get and cannot use. (Whole stories are in test_migration.py and in the simulator.)"""

from __future__ import annotations

import pytest

from router.core.deaths import Key
from router.core.endpoint import Endpoint, EndpointState
from router.core.policy.api import Choice, Tried
from router.core.pool import EndpointPool
from router.core.probation import Choose, Probation
from router.core.quarantine import Quarantine, QuarantineLimits
from router.core.suspect import Suspect
from tests.support.endpoints import make_endpoint
from tests.support.manual_clock import ManualClock


class Dead:
    key: Key = ("w1", "w1-1")
    is_alive = False
    is_abandoned = True


def choosing(candidates: list[Endpoint], tried: set[Key]) -> Choose:
    def choose(closed: Tried) -> Choice | None:
        usable = (
            Choice(endpoint=e)
            for e in candidates
            if e.state is EndpointState.READY and (e.id, e.incarnation) not in {*closed, *tried}
        )
        return next(usable, None)

    return choose


@pytest.mark.parametrize("why", ["lost", "tried"])
def test_place_that_is_of_no_use_does_not_go_round_without_end(why: str) -> None:
    clock = ManualClock()
    quarantine = Quarantine(QuarantineLimits(), clock)
    pool = EndpointPool(clock, hold_down_s_max=60, abandon_s=5, remember_s=300)
    probation = Probation(quarantine, pool, clock, verdict_s=1)
    state = EndpointState.LOST if why == "lost" else EndpointState.READY
    candidates = [make_endpoint("w2", state=state), make_endpoint("w3")]
    choose = choosing(candidates, {("w2", "w2-1")})
    names = (b"on w2", b"on w3", b"a", b"b", b"c")
    on_w2, on_w3, *waiting = [quarantine.accuse(None, name, Dead()) for name in names]
    assert quarantine.begin(on_w2, ("w2", "w2-1"))
    assert quarantine.begin(on_w3, ("w3", "w3-1"))

    def turns() -> list[Suspect]:
        return [suspect for suspect in waiting if suspect.turn.is_set()]

    for suspect in waiting:
        quarantine.wait(suspect, [("w2", "w2-1"), ("w3", "w3-1")])
    quarantine.end(on_w2)
    for _ in range(len(waiting)):
        for suspect in turns():
            assert probation.take(suspect, candidates, choose) is None
    assert turns() == [], "each has had a look at it, once"
    quarantine.end(on_w3)
    assert [suspect.place for suspect in turns()] == [("w3", "w3-1")]
    quarantine.check_integrity()
