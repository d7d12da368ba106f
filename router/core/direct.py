"""Calls that the router only places: admit → pick → hand out a ticket, then follow what the worker tells of the call.

To everybody else such a call is like one that is relayed: it holds its place in front of the workers, counts as in
flight on its endpoint, and may be a suspect. Only that nothing of its answer comes through here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import final

from common.clock import Clock
from router.core.admission.gate import Admission
from router.core.call import Call, RoutingView
from router.core.deaths import Key
from router.core.handout import Fate, Handout
from router.core.handouts import Handouts
from router.core.journey import Journey, Origin
from router.core.placement import Placement
from router.core.pool import EndpointPool
from router.core.ports import RouteObserver
from router.core.probation import Probation
from router.core.route import Route
from router.core.waiting import one_happens_within

__all__ = ["DirectCalls", "Wish"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A call for which its client wants to be told a worker."""

    view: RoutingView
    call: Call
    route: Route
    fingerprint: Callable[[], bytes]
    """See `GenerateCodec.fingerprint`."""
    tried: Collection[Key] = ()
    """Endpoints on which it has failed."""
    failed: Collection[int] = ()
    """Numbers of the handouts of this router with which it has failed."""
    origin: Origin | None = None
    """Set when the client has a part of the answer."""


class _NothingLearnedError(Exception):
    """The call is over and says nothing of how long calls take."""


@final
class DirectCalls:
    """One per router process, beside the dispatcher.

    Resources: `run` owns a task for each call, from its ticket to its end. Cancellation: a client that leaves before it
    has its ticket leaves the line; after that only the worker's reports count.
    """

    def __init__(
        self,
        *,
        pool: EndpointPool,
        admission: Admission,
        placement: Placement,
        probation: Probation,
        handouts: Handouts,
        observer: RouteObserver,
        clock: Clock,
        news_s_max: float,
    ) -> None:
        """`news_s_max`: longest wait for a word of a worker of which a client says that it broke, seconds."""
        self._pool = pool
        self._admission = admission
        self._placement = placement
        self._probation = probation
        self.handouts = handouts
        self._observer = observer
        self._clock = clock
        self._news_s_max = news_s_max
        self._tasks: asyncio.TaskGroup | None = None

    def __repr__(self) -> str:
        return f"DirectCalls({self.handouts!r})"

    async def run(self) -> None:
        """Until cancelled; then nothing is followed any more."""
        async with asyncio.TaskGroup() as self._tasks:
            await asyncio.Event().wait()

    async def pick(self, wish: Wish) -> Handout:
        """The handout for a call: its endpoint, and the number for its ticket.

        Raises what `Admission.admitted` and `Placement.find` raise, and `Quarantined`.
        """
        if self._tasks is None:
            raise AssertionError("pick before run")
        num_moves = await self._moved(wish.failed)
        picked: asyncio.Future[Handout] = asyncio.get_running_loop().create_future()
        stay = self._tasks.create_task(self._stay(wish, num_moves, picked), name="direct")
        try:
            return await picked
        finally:
            if not picked.done() or picked.cancelled():
                stay.cancel()

    # --- a call that failed before ------------------------------------------------------------

    async def _moved(self, failed: Collection[int]) -> int | None:
        """`Handouts.redeem` of the last one that counts, once what its failure means is known."""
        num_moves = None
        for number in failed:
            if (handout := self.handouts.find(number)) is not None:
                await self._named(handout)
            moved = self.handouts.redeem(number)
            num_moves = num_moves if moved is None else moved
        return num_moves

    async def _named(self, handout: Handout) -> None:
        """Its client says that it failed. A client is not believed: the worker's next word, or its silence, decides."""
        handout.is_named = True
        handout.report.clear()
        until = self._clock.now() + self._news_s_max
        while not handout.over.is_set():
            changed = self._pool.changed()
            if not handout.tracked.is_alive:
                handout.settle(Fate.LOST)
                break
            events = (handout.report, handout.over, changed)
            if handout.report.is_set() or not await one_happens_within(
                events, until - self._clock.now(), self._clock
            ):
                return  # it lives, and will tell the end of the call
        await handout.closed.wait()

    # --- from the ticket to the end -----------------------------------------------------------

    async def _stay(
        self, wish: Wish, num_moves: int | None, picked: asyncio.Future[Handout]
    ) -> None:
        try:
            with suppress(_NothingLearnedError):
                async with self._admission.admitted(
                    wish.view, wish.call, wish.route, accepted_before=num_moves is not None
                ):
                    await self._serve(wish, num_moves or 0, picked)
        except Exception as error:
            if not picked.done():
                picked.set_exception(error)
            # After that nobody is there to be told: a verdict over the call is kept by the quarantine.
        finally:
            if picked.done() and not picked.cancelled() and picked.exception() is None:
                picked.result().closed.set()

    async def _serve(self, wish: Wish, num_moves: int, picked: asyncio.Future[Handout]) -> None:
        with self._probation.journey(wish.fingerprint) as journey:
            journey.tried.update(wish.tried)
            journey.origin = wish.origin
            with self._observer.choosing(wish.route):
                endpoint = await self._placement.find(wish.view, wish.call, wish.route, journey)
            with (
                # How it ended is not known well enough to count it for or against the endpoint.
                self._pool.track(endpoint, judged=False) as tracked,
                self.handouts.open(
                    endpoint,
                    tracked,
                    deadline=wish.call.deadline,
                    num_moves=num_moves,
                    on_proved=self._proved(journey),
                ) as handout,
            ):
                if picked.done():  # the client left at this very moment
                    raise _NothingLearnedError
                picked.set_result(handout)
                await handout.over.wait()
            if handout.fate is Fate.LOST and (handout.is_taken or handout.is_named):
                journey.suspect = await self._probation.lost(
                    journey.suspect, wish.fingerprint, tracked
                )
            if handout.fate is not Fate.COMPLETED or journey.suspect is not None:
                raise _NothingLearnedError

    def _proved(self, journey: Journey) -> Callable[[], None] | None:
        return None if journey.suspect is None else partial(self._probation.prove, journey)
