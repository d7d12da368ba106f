"""Sends a load: closed loop (callers ask again when they have their answer) or open loop (requests arrive by plan).

A closed loop slows down together with the server, so it shows what a server can do, never how long people wait. In the
open loop nothing waits for an answer: a request that cannot leave in time is still counted from the planned time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Final, final

from cli.bench.connection import Connection
from cli.bench.measure import Sample, measure
from cli.bench.timeline import Timeline
from cli.bench.workload import Workload, poisson_arrivals
from cli.client import Client
from cli.request import GenerateOptions, build_request
from common.clock import Clock
from common.errors import LeptonError, Unavailable

__all__ = ["IN_FLIGHT_MAX", "NOT_SENT", "Load", "check_reachable", "run_load"]

IN_FLIGHT_MAX: Final = 1024
"""Open loop: requests on their way at the same time, unless something else is said."""
NOT_SENT: Final = "NOT_SENT"
"""Reason of a request that did not leave because that many were on their way."""

_CALLERS_PER_CHANNEL: Final = 16
"""One connection carries at most about a hundred streams, and one asyncio reader is a bottleneck before that."""
_CHANNELS_MAX: Final = 16

OnSample = Callable[[Sample], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much is sent, and how fast. `rate` decides between the loops."""

    requests: int
    """How many in all."""
    concurrency: int = 1
    """Closed loop: callers."""
    rate: float | None = None
    """Open loop: requests per second in the mean, Poisson arrivals; None: closed loop."""
    in_flight_max: int = IN_FLIGHT_MAX
    """Open loop: who would be one more does not leave and counts as failed with NOT_SENT."""
    workload: Workload
    options: GenerateOptions
    timeout_s: float = 120.0
    """Deadline of each request, seconds."""
    direct: bool = False
    """The router only picks; answers come from the workers."""

    def __str__(self) -> str:
        return f"{self.concurrency} at once" if self.rate is None else f"{self.rate:g} per second"

    @property
    def at_once_max(self) -> int:
        """Most requests at the same time."""
        return min(self.requests, self.concurrency if self.rate is None else self.in_flight_max)


async def check_reachable(address: str) -> None:
    """Raises `Unavailable` when nobody answers there, or nothing can be asked."""
    async with Client(address) as client:
        if not await client.list_models():
            raise Unavailable(f"{address} serves no model now")


async def run_load(
    address: str,
    load: Load,
    clock: Clock,
    *,
    on_sample: OnSample,
    timeline: Timeline | None = None,
) -> float:
    """Sends everything; hands over each sample as it ends, and returns how long it took, seconds.

    A request that fails is a sample with an error; only a client that cannot be made raises (`LeptonError`).
    """
    async with AsyncExitStack() as stack:
        channels = min(_CHANNELS_MAX, -(-load.at_once_max // _CALLERS_PER_CHANNEL))
        clients: list[Connection | Client] = []
        for _ in range(channels):
            client = Client(address, direct=True) if load.direct else Connection(address)
            clients.append(await stack.enter_async_context(client))
        await _connect(clients)
        run = _Run(load, clients, clock, on_sample, timeline or Timeline())
        began = clock.now()
        await (run.closed(began) if load.rate is None else run.open(began, load.rate))
        return clock.now() - began


@final
class _Run:
    """One load on its way."""

    def __init__(
        self,
        load: Load,
        clients: Sequence[Connection | Client],
        clock: Clock,
        on_sample: OnSample,
        timeline: Timeline,
    ) -> None:
        self._load = load
        self._clients = clients
        self._clock = clock
        self._on_sample = on_sample
        self._timeline = timeline

    async def closed(self, began: float) -> None:
        numbers = iter(range(self._load.requests))

        async def caller() -> None:
            for number in numbers:
                await self._send(number, began, planned_s=None)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(self._load.concurrency, self._load.requests)):
                tasks.create_task(caller())

    async def open(self, began: float, rate: float) -> None:
        load, clock = self._load, self._clock
        arrivals = poisson_arrivals(rate, seed=load.workload.seed)
        async with asyncio.TaskGroup() as tasks:
            for number, at in zip(range(load.requests), arrivals, strict=False):
                planned = began + at
                if (wait := planned - clock.now()) > 0:
                    await clock.sleep(wait)
                if self._timeline.in_flight >= load.in_flight_max:
                    self._not_sent(planned, began)
                else:
                    self._timeline.sent(clock.now() - began)
                    tasks.create_task(self._follow(number, began, planned_s=planned))

    async def _send(self, number: int, began: float, *, planned_s: float | None) -> None:
        self._timeline.sent(self._clock.now() - began)
        await self._follow(number, began, planned_s=planned_s)

    async def _follow(self, number: int, began: float, *, planned_s: float | None) -> None:
        clock, timeline = self._clock, self._timeline
        ask = self._load.workload.ask(number)
        request = build_request(ask.prompt, replace(self._load.options, max_tokens=ask.max_tokens))
        sample = await measure(
            self._clients[number % len(self._clients)],
            request,
            clock,
            timeout_s=self._load.timeout_s,
            planned_s=planned_s,
            cancel_after=ask.cancel_after,
            on_tokens=lambda num: timeline.received(clock.now() - began, num),
        )
        timeline.ended(clock.now() - began, failed=bool(sample.error))
        self._on_sample(sample)

    def _not_sent(self, planned: float, began: float) -> None:
        now = self._clock.now()
        self._timeline.refused(now - began)
        self._on_sample(
            Sample(planned_s=planned, began_s=now, ended_s=now, first_at_s=None, error=NOT_SENT)
        )


async def _connect(clients: Sequence[Connection | Client]) -> None:
    """So that no sample holds the making of a connection."""
    for client in clients:
        try:
            await client.list_models()
        except LeptonError:
            return  # the samples will say it
