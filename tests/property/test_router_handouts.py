"""What a router believes of the calls that clients make themselves, beside a worker and clients that know."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from router.core.endpoint import TicketCounts
from router.core.entry import Entry, Tracked
from router.core.handout import Fate, Handout
from router.core.handouts import Handouts
from router.core.pulse import Patience
from tests.support.endpoints import make_endpoint
from tests.support.manual_clock import ManualClock

TICKET_S = 5.0
ENDPOINT = make_endpoint("w1")


@dataclass(eq=False)
class Held:
    handout: Handout
    stack: ExitStack


class HandoutsBesideTruth(RuleBasedStateMachine):
    """The reference counts; it knows which ticket is which, the router does not."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.handouts = Handouts(self.clock, Random(1), ticket_s=TICKET_S, moves_max=2)
        self.entry = Entry(ENDPOINT, Patience(suspect_s=1, abandon_s=2))
        self.held: list[Held] = []
        self.unused: list[float] = []
        """When each ticket expires."""
        self.last_expires_at = 0.0
        self.running = 0
        self.counts = TicketCounts()
        self.reported = TicketCounts()

    @rule()
    def hand_out(self) -> None:
        stack = ExitStack()
        endpoint = replace(ENDPOINT, load=replace(ENDPOINT.load, tickets=self.reported))
        opened = self.handouts.open(endpoint, Tracked(self.entry), deadline=self.clock.now() + 1e6)
        self.held.append(Held(stack.enter_context(opened), stack))
        self.last_expires_at = self.clock.now() + TICKET_S
        self.unused.append(self.last_expires_at)

    @precondition(lambda self: self.unused)
    @rule(data=st.data())
    def use(self, data: st.DataObject) -> None:
        """Any of them, not only the oldest; the worker's word goes out before the next ticket expires."""
        self.unused.pop(data.draw(st.integers(0, len(self.unused) - 1)))
        self.running += 1
        self.counts = replace(self.counts, taken=self.counts.taken + 1)
        self.report()

    @precondition(lambda self: self.running)
    @rule(well=st.booleans())
    def end(self, *, well: bool) -> None:
        self.running -= 1
        self.counts = replace(
            self.counts,
            ended=self.counts.ended + 1,
            completed=self.counts.completed + well,
        )

    @rule()
    def report(self) -> None:
        self.reported = self.counts
        self.handouts.reported((ENDPOINT.id, ENDPOINT.incarnation), self.counts)
        self._close()

    @rule(seconds=st.floats(0.1, 4.0))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.unused = [until for until in self.unused if until > self.clock.now()]
        self.handouts.sweep({(ENDPOINT.id, ENDPOINT.incarnation)})
        self._close()

    def _close(self) -> None:
        """As the task of each call does once it is over."""
        for held in [held for held in self.held if held.handout.over.is_set()]:
            held.stack.close()
            self.held.remove(held)

    @invariant()
    def books_are_right(self) -> None:
        self.handouts.check_integrity()
        assert len(self.handouts) == len(self.held)
        if self.reported != self.counts:
            return
        taken = sum(held.handout.is_taken for held in self.held)
        assert taken == self.running, "as many as the worker has"
        unused = len(self.held) - taken
        # The oldest is taken to be the one that was used: others may live on for a part of `ticket_s`.
        assert unused >= len(self.unused)
        if self.clock.now() >= self.last_expires_at:
            assert unused == 0

    def teardown(self) -> None:
        self.handouts.release()
        assert all(held.handout.fate is Fate.GONE for held in self.held)
        self._close()
        assert len(self.handouts) == 0


TestHandoutsBesideTruth = HandoutsBesideTruth.TestCase
TestHandoutsBesideTruth.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
