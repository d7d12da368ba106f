"""The pool against a model that is too simple to be wrong, over random histories."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from router.core.endpoint import Endpoint, EndpointState, Load
from router.core.pool import EndpointPool
from tests.support.endpoints import make_endpoint
from tests.support.manual_clock import ManualClock

HOLD_DOWN_S, SUSPECT_S, ABANDON_S = 60.0, 1.0, 5.0
MASS_SILENCE_S, MASS_VANISH_S = 20.0, 200.0
ids = st.sampled_from(["w1", "w2", "w3"])


@dataclass
class Known:
    """What should be known of one worker in the pool."""

    incarnation: int
    heard_at: float | None = None
    broken: bool = False
    draining: bool = False
    missing_since: float | None = None
    in_flight: int = 0
    settled: EndpointState = EndpointState.CONNECTING

    def settle(self, now: float, *, frozen: bool) -> None:
        """The state as the documentation says it."""
        quiet_s = 0.0 if self.heard_at is None else now - self.heard_at
        if self.broken or (quiet_s >= ABANDON_S and not frozen):
            self.settled = EndpointState.LOST
        elif self.draining:
            self.settled = EndpointState.DRAINING
        elif self.heard_at is None:
            self.settled = EndpointState.CONNECTING
        else:
            is_quiet = quiet_s >= SUSPECT_S
            self.settled = EndpointState.SUSPECT if is_quiet else EndpointState.READY

    @property
    def is_alive(self) -> bool:
        return self.heard_at is not None and self.settled is not EndpointState.LOST


class PoolMachine(RuleBasedStateMachine):
    """Workers start, register, speak, fall silent, drain and vanish; the registry lies and goes away."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.pool = EndpointPool(
            self.clock,
            hold_down_s_max=HOLD_DOWN_S,
            abandon_s=ABANDON_S,
            remember_s=300,
            suspect_s=SUSPECT_S,
            mass_silence_s_max=MASS_SILENCE_S,
            mass_vanish_s_max=MASS_VANISH_S,
        )
        self.silent_since: float | None = None
        """Since when more than half are silent, as seen by sweeps."""
        self.vanished_since: float | None = None
        self.listed: dict[str, Endpoint] = {}
        self.known: dict[str, Known] = {}
        self.starts = {"w1": 1, "w2": 1, "w3": 1}
        self.calls: list[tuple[Known, ExitStack]] = []

    @initialize()
    def begin(self) -> None:
        """All three there and speaking: most faults need that to be interesting."""
        for worker in self.starts:
            self.list_in_registry(worker, draining=False)
        self.apply(stale=False)
        for worker in self.starts:
            self.report(worker, age=0, draining=False, running=0)

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
                if stale and known.is_alive:
                    continue
                known = None
            if known is None:
                known = self.known[worker] = Known(incarnation=int(listed.incarnation))
            known.missing_since = None
            known.draining |= listed.state is EndpointState.DRAINING
            known.settle(self.clock.now(), frozen=self.is_frozen)
        if not stale:
            for worker in [w for w in self.known if w not in self.listed]:
                known = self.known[worker]
                if known.draining:
                    del self.known[worker]
                elif known.missing_since is None:
                    known.missing_since = self.clock.now()
            self.let_go()

    @property
    def is_frozen(self) -> bool:
        return self.silent_since is not None and self.swept_at - self.silent_since < MASS_SILENCE_S

    swept_at = 0.0

    def let_go(self) -> None:
        """Of those missing, who does not stay."""
        now = self.clock.now()
        missing = {w: k for w, k in self.known.items() if k.missing_since is not None}
        if len(missing) >= 2 and 2 * len(missing) > len(self.known):
            self.vanished_since = now if self.vanished_since is None else self.vanished_since
        else:
            self.vanished_since = None
        held = self.vanished_since is not None and now - self.vanished_since < MASS_VANISH_S
        for worker, known in missing.items():
            assert known.missing_since is not None
            held_down = known.is_alive and now - known.missing_since < HOLD_DOWN_S
            if known.broken or not (held or held_down):
                del self.known[worker]
        if not self.known:
            self.silent_since = self.vanished_since = None

    @rule(worker=ids, age=st.integers(0, 1), draining=st.booleans(), running=st.integers(0, 9))
    def report(self, worker: str, age: int, draining: bool, running: int) -> None:
        incarnation = self.starts[worker] - age
        load = Load(running=running, rows_max=8)
        self.pool.report(worker, str(incarnation), load, draining=draining)
        known = self.known.get(worker)
        if known is not None and known.incarnation == incarnation:
            known.heard_at, known.broken = self.clock.now(), False
            known.draining |= draining
            known.settle(self.clock.now(), frozen=self.is_frozen)

    @rule(worker=ids, age=st.integers(0, 1))
    def lose(self, worker: str, age: int) -> None:
        incarnation = self.starts[worker] - age
        self.pool.lost(worker, str(incarnation))
        known = self.known.get(worker)
        if known is not None and known.incarnation == incarnation:
            known.broken = True
            known.settle(self.clock.now(), frozen=self.is_frozen)
            if known.missing_since is not None:
                del self.known[worker]
                if not self.known:
                    self.silent_since = self.vanished_since = None

    @rule(seconds=st.one_of(st.floats(0, 3), st.floats(0, 40)))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.pool.sweep()
        now = self.swept_at = self.clock.now()
        speaking = [k for k in self.known.values() if k.heard_at is not None and not k.draining]
        silent = [k for k in speaking if not k.broken and now - (k.heard_at or 0.0) >= SUSPECT_S]
        if len(silent) >= 2 and 2 * len(silent) > len(speaking):
            self.silent_since = now if self.silent_since is None else self.silent_since
        else:
            self.silent_since = None
        for known in self.known.values():
            known.settle(now, frozen=self.is_frozen)
        self.let_go()

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
            worker: (str(known.incarnation), known.settled, known.in_flight)
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
