"""The pool against a model that is too simple to be wrong, over random histories."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from router.core.endpoint import Endpoint, EndpointState, Load
from router.core.pool import EndpointPool
from tests.support.endpoints import make_endpoint
from tests.support.manual_clock import ManualClock

HOLD_DOWN_S = 60.0
ids = st.sampled_from(["w1", "w2", "w3"])


@dataclass
class Known:
    """What should be known of one worker in the pool."""

    incarnation: int
    alive: bool = False
    lost: bool = False
    draining: bool = False
    missing_since: float | None = None
    in_flight: int = 0

    @property
    def state(self) -> EndpointState:
        if self.lost:
            return EndpointState.LOST
        if self.draining:
            return EndpointState.DRAINING
        return EndpointState.READY if self.alive else EndpointState.CONNECTING


class PoolMachine(RuleBasedStateMachine):
    """Workers start, register, speak, fall silent, drain and vanish; the registry lies and goes away."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.pool = EndpointPool(
            self.clock, hold_down_s_max=HOLD_DOWN_S, abandon_s=5, remember_s=300
        )
        self.listed: dict[str, Endpoint] = {}
        self.known: dict[str, Known] = {}
        self.starts = {"w1": 1, "w2": 1, "w3": 1}
        self.calls: list[tuple[Known, ExitStack]] = []

    @rule(worker=ids, draining=st.booleans())
    def list_in_registry(self, worker: str, draining: bool) -> None:
        state = EndpointState.DRAINING if draining else EndpointState.CONNECTING
        self.listed[worker] = make_endpoint(
            worker, incarnation=str(self.starts[worker]), state=state
        )

    @rule(worker=ids)
    def vanish_from_registry(self, worker: str) -> None:
        self.listed.pop(worker, None)

    @rule(worker=ids)
    def restart(self, worker: str) -> None:
        self.starts[worker] += 1

    @rule(stale=st.booleans())
    def apply(self, stale: bool) -> None:
        self.pool.apply(self.listed.values(), stale=stale)
        for worker, listed in self.listed.items():
            known = self.known.get(worker)
            if known is not None and str(known.incarnation) != listed.incarnation:
                if stale and known.alive and not known.lost:
                    continue
                known = None
            if known is None:
                known = self.known[worker] = Known(incarnation=int(listed.incarnation))
            known.missing_since = None
            known.draining |= listed.state is EndpointState.DRAINING
        if not stale:
            for worker in [w for w in self.known if w not in self.listed]:
                known = self.known[worker]
                if known.draining or known.lost or not known.alive:
                    del self.known[worker]
                elif known.missing_since is None:
                    known.missing_since = self.clock.now()

    @rule(worker=ids, age=st.integers(0, 1), draining=st.booleans(), running=st.integers(0, 9))
    def report(self, worker: str, age: int, draining: bool, running: int) -> None:
        incarnation = self.starts[worker] - age
        load = Load(running=running, rows_max=8)
        self.pool.report(worker, str(incarnation), load, draining=draining)
        known = self.known.get(worker)
        if known is not None and known.incarnation == incarnation:
            known.alive, known.lost = True, False
            known.draining |= draining

    @rule(worker=ids, age=st.integers(0, 1))
    def lose(self, worker: str, age: int) -> None:
        incarnation = self.starts[worker] - age
        self.pool.lost(worker, str(incarnation))
        known = self.known.get(worker)
        if known is not None and known.incarnation == incarnation:
            known.lost = True
            if known.missing_since is not None:
                del self.known[worker]

    @rule(seconds=st.floats(0, 40))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.pool.sweep()
        now = self.clock.now()
        for worker in [
            worker
            for worker, known in self.known.items()
            if known.missing_since is not None and now - known.missing_since >= HOLD_DOWN_S
        ]:
            del self.known[worker]

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def begin_call(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.known)))
        known = self.known[worker]
        stack = ExitStack()
        stack.enter_context(
            self.pool.track(make_endpoint(worker, incarnation=str(known.incarnation)))
        )
        known.in_flight += 1
        self.calls.append((known, stack))

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def end_call(self, data: st.DataObject) -> None:
        known, stack = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        stack.close()
        known.in_flight -= 1

    @invariant()
    def pool_equals_model(self) -> None:
        snapshot = self.pool.snapshot()
        assert snapshot is self.pool.snapshot()
        seen = {
            e.id: (e.incarnation, e.state, e.in_flight)
            for endpoints in snapshot.models.values()
            for e in endpoints
        }
        assert seen == {
            worker: (str(known.incarnation), known.state, known.in_flight)
            for worker, known in self.known.items()
        }

    @invariant()
    def pool_does_not_contradict_itself(self) -> None:
        self.pool.check_integrity()

    def teardown(self) -> None:
        for _, stack in self.calls:
            stack.close()
        self.pool.check_integrity()


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_snapshot_in_hand_never_changes() -> None:
    """Kept here as the shortest history of the property above."""
    clock = ManualClock()
    pool = EndpointPool(clock, hold_down_s_max=1, abandon_s=5, remember_s=300)
    endpoint = make_endpoint("w1")
    pool.apply([endpoint], stale=False)
    before = pool.snapshot()
    pool.apply([replace(endpoint, incarnation="2")], stale=False)
    assert before.models["tiny"][0].incarnation == "w1-1"
