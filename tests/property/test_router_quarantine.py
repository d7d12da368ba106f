"""One request is poison. Whatever happens in whatever order: it ends at most two workers, three where workers are
killed as well, nobody else is convicted, no two suspects are tried on one worker, and everybody else gets through.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from common.errors import Quarantined
from router.core.deaths import Key
from router.core.quarantine import Quarantine, QuarantineLimits
from router.core.suspect import Suspect
from tests.support.manual_clock import ManualClock

POISON = b"poison"


@dataclass(eq=False)
class Worker:
    key: Key
    is_alive: bool = True
    is_abandoned: bool = False
    calls: list[ACall] = field(default_factory=list)


@dataclass(eq=False)
class ACall:
    fingerprint: bytes
    suspect: Suspect | None = None
    worker: Worker | None = None


class QuarantineMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.quarantine = Quarantine(QuarantineLimits(quarantine_s=60), ManualClock())
        self.workers = [Worker((f"w{n}", "1")) for n in range(3)]
        self.calls: list[ACall] = []
        self.num_deaths = 0
        """By poison."""
        self.num_kills = 0
        self.convicted: set[bytes] = set()

    def alive(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.is_alive]

    def compute(self, call: ACall, worker: Worker) -> None:
        """The call reaches the worker; the poison ends it before anything new comes out."""
        call.worker = worker
        worker.calls.append(call)
        if call.fingerprint == POISON:
            self.num_deaths += 1
            self.die(worker)

    def die(self, worker: Worker) -> None:
        worker.is_alive = False
        calls, worker.calls = worker.calls, []
        for call in calls:
            call.worker = None
            if call.suspect is not None and call.suspect.place == worker.key:
                if self.quarantine.judge(call.suspect, worker):
                    self.convicted.add(call.fingerprint)
                    self.calls.remove(call)
            else:
                call.suspect = self.quarantine.accuse(call.suspect, call.fingerprint, worker)
        self.workers.append(Worker((worker.key[0], str(int(worker.key[1]) + 1))))

    @rule(name=st.sampled_from([b"a", b"b", b"c", b"d", POISON]), where=st.integers(0, 2))
    def arrive(self, name: bytes, where: int) -> None:
        if name == POISON and any(call.fingerprint == POISON for call in self.calls):
            return  # a second copy may end a worker more: it can be under way before the first one is found out
        if name == POISON and self.has_suspect(self.alive()[where]):
            return  # two causes of death at the same time: who is on probation there cannot prove its innocence
        call = ACall(name)
        try:
            call.suspect = self.quarantine.admit(name)
        except Quarantined:
            assert name == POISON
            return
        self.calls.append(call)
        if call.suspect is None:
            self.compute(call, self.alive()[where])

    @rule(pick=st.data())
    def place(self, pick: st.DataObject) -> None:
        """A suspect without a place asks for one."""
        homeless = [c for c in self.calls if c.suspect is not None and c.worker is None]
        if not homeless:
            return
        call = pick.draw(st.sampled_from(homeless))
        self.seat(call)

    def seat(self, call: ACall) -> None:
        suspect = call.suspect
        assert suspect is not None
        if suspect.place is not None:  # handed over
            found = [worker for worker in self.alive() if worker.key == suspect.place]
            if found:
                self.compute(call, found[0])
                return
            self.quarantine.end(suspect)
        if not self.quarantine.stands(suspect):
            self.quarantine.clear(suspect)
            call.suspect = None
            self.compute(call, self.alive()[0])
            return
        for worker in self.alive():
            if self.quarantine.begin(suspect, worker.key):
                self.compute(call, worker)
                return
        self.quarantine.wait(suspect, [worker.key for worker in self.alive()])

    @rule(where=st.integers(0, 2))
    def kill(self, where: int) -> None:
        """Somebody kills a worker, but not one on which somebody is on probation (see `arrive`)."""
        worker = self.alive()[where]
        if not self.has_suspect(worker):
            self.num_kills += 1
            self.die(worker)

    @staticmethod
    def has_suspect(worker: Worker) -> bool:
        return any(call.suspect is not None for call in worker.calls)

    @rule(pick=st.data(), outcome=st.sampled_from(["output", "error", "gone"]))
    def go_on(self, pick: st.DataObject, outcome: str) -> None:
        """A harmless call produces something, fails in a typed way, or its client goes."""
        running = [c for c in self.calls if c.fingerprint != POISON]
        if not running:
            return
        call = pick.draw(st.sampled_from(running))
        if outcome == "gone" or (call.suspect is None and outcome == "error"):
            self.calls.remove(call)
            if call.worker is not None:
                call.worker.calls.remove(call)
            if call.suspect is not None:
                self.quarantine.leave(call.suspect)
        elif call.suspect is not None and call.worker is not None:
            if outcome == "output":
                self.quarantine.clear(call.suspect)
                call.suspect = None
            else:
                call.worker.calls.remove(call)
                call.worker = None
                self.quarantine.end(call.suspect)

    @invariant()
    def books_agree(self) -> None:
        self.quarantine.check_integrity()

    @invariant()
    def one_suspect_per_worker(self) -> None:
        for worker in self.alive():
            assert sum(call.suspect is not None for call in worker.calls) <= 1

    @invariant()
    def poison_ends_few_and_nobody_else_pays(self) -> None:
        assert self.num_deaths <= 2 + (self.num_kills > 0)
        assert self.convicted <= {POISON}

    def teardown(self) -> None:
        """Everybody gets a turn: with each suspect producing in its place, nobody is left."""
        for _ in range(10 * len(self.calls) + 10):
            homeless = [c for c in self.calls if c.suspect is not None and c.worker is None]
            for call in homeless:
                if call in self.calls and call.suspect is not None and call.worker is None:
                    self.seat(call)
            for call in self.calls:
                if call.suspect is not None and call.worker is not None:
                    self.quarantine.clear(call.suspect)
                    call.suspect = None
        assert not any(call.suspect is not None for call in self.calls)
        self.poison_ends_few_and_nobody_else_pays()


TestQuarantine = QuarantineMachine.TestCase
