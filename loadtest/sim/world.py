"""One run: the router's pool, policy and dispatcher as they are, simulated workers, a trace, faults. No I/O."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from random import Random
from typing import Final, final

from common.errors import DeadlineExceeded, LeptonError
from common.request.prompt_prefix import PromptPrefix
from loadtest.sim.faults import Fault, FaultKind
from loadtest.sim.ledger import Answer
from loadtest.sim.router import SimRouter, WorldShape
from loadtest.sim.trace import BLOCK_TOKENS, Ask
from loadtest.sim.virtual_time import VirtualClock
from loadtest.sim.worker import SimWorker, WorkerHealth
from router.core.call import BYTES_PER_TOKEN, Call, Cost, RoutingView
from router.core.endpoint import Endpoint, EndpointState, Load
from router.core.route import Route

__all__ = ["World"]

MODEL: Final = "sim"
_REPORT_S: Final = 0.05
_BREAK_S: Final = 0.002
"""A dead process resets its connections at once; the router knows a moment later."""
_LEASE_S: Final = 5.0
_SWEEP_S: Final = 0.25


@final
class World:
    """Made and used inside `run_virtually`."""

    def __init__(
        self, shape: WorldShape, asks: Sequence[Ask], faults: Sequence[Fault], random: Random
    ) -> None:
        self._asks = asks
        self._faults = faults
        self._loop = asyncio.get_running_loop()
        self.clock = VirtualClock(self._loop)
        self.workers = [
            SimWorker(f"w{index}", shape.pace, self._report_soon) for index in range(shape.workers)
        ]
        self._by_id = {worker.id: worker for worker in self.workers}
        self._reporting: set[str] = set()
        self._registered = {worker.id: _endpoint(worker) for worker in self.workers}
        self._registry_away = False
        self.routers = [
            SimRouter(f"r{index}", shape, self._by_id, self._attempted, self.clock, random)
            for index in range(shape.routers)
        ]
        self._random = random
        self.answers: list[Answer] = []

    # --- the run ---

    async def run(self) -> list[Answer]:
        """Every answer, in order of the trace, once the last one has ended."""
        self._apply()
        for worker in self.workers:
            self._report(worker)
        for fault in self._faults:
            self._loop.call_at(fault.at, self._begin, fault)
        async with asyncio.TaskGroup() as group:
            tending = [
                group.create_task(task)
                for task in (self._sweep(), *(router.admission.run() for router in self.routers))
            ]
            async with asyncio.TaskGroup() as calls:
                for ask in self._asks:
                    await self.clock.sleep(ask.at - self.clock.now())
                    answer = Answer(ask=ask, asked_at=self.clock.now())
                    self.answers.append(answer)
                    calls.create_task(self._call(answer))
            for task in tending:
                task.cancel()
        return self.answers

    def faults(self) -> Iterator[str]:
        """What may never be true once every call has ended."""
        for router in self.routers:
            yield from router.faults()
        left = sum(len(worker.running) + len(worker.waiting) for worker in self.workers)
        if left:
            yield f"{left} calls still run on workers"

    def _attempted(self, index: int) -> Ask:
        answer = self.answers[index]
        answer.attempts += 1
        return answer.ask

    async def _call(self, answer: Answer) -> None:
        ask = answer.ask
        router = self._random_router()
        view = RoutingView(
            model=MODEL,
            session_key=str(ask.session),
            priority=ask.priority,
            caller=ask.caller,
            cost=Cost(tokens=ask.prompt_tokens + ask.answer_tokens),
            prefix=_prefix_of(ask),
        )
        call = Call(request_id=str(ask.index), deadline=self.clock.now() + ask.deadline_s)

        async def write(message: bytes) -> None:
            first, size = message.split()
            answer.spans.append((int(first), int(size)))
            if answer.first_at is None:
                answer.first_at = self.clock.now()

        route = Route(started_at=self.clock.now())
        error: LeptonError | None = None
        try:
            async with asyncio.timeout(ask.deadline_s):
                await router.dispatcher.generate(b"%d" % ask.index, view, call, write, route)
        except LeptonError as failed:
            error = failed
        except TimeoutError:
            error = DeadlineExceeded("the deadline passed")
        answer.end(self.clock.now(), error)

    def _random_router(self) -> SimRouter:
        if len(self.routers) == 1:  # nothing is drawn, so that seeds mean what they meant
            return self.routers[0]
        return self._random.choice(self.routers)

    async def _sweep(self) -> None:
        while True:
            await self.clock.sleep(_SWEEP_S)
            for worker in self.workers:  # who has nothing new to tell says that it lives
                self._report(worker)
            for router in self.routers:
                router.look_after()

    # --- what the router hears ---

    def _apply(self) -> None:
        for router in self.routers:
            router.pool.apply(list(self._registered.values()), stale=self._registry_away)

    def _report_soon(self, worker: SimWorker) -> None:
        if worker.id not in self._reporting:
            self._reporting.add(worker.id)
            self._loop.call_later(_REPORT_S, self._report, worker)

    def _report(self, worker: SimWorker) -> None:
        self._reporting.discard(worker.id)
        if worker.health in {WorkerHealth.DEAD, WorkerHealth.FROZEN}:
            return
        for router in self.routers:
            router.hear(worker)

    def _lose(self, worker: SimWorker, incarnation: str) -> None:
        for router in self.routers:
            router.pool.lost(worker.id, incarnation)

    # --- what goes wrong ---

    def _begin(self, fault: Fault) -> None:
        worker = self.workers[fault.worker]
        match fault.kind:
            case FaultKind.KILL:
                self._kill(worker, fault.lasts_s)
            case FaultKind.FREEZE if worker.health is WorkerHealth.WELL:
                worker.freeze()
                self._loop.call_later(fault.lasts_s, self._thaw, worker, worker.incarnation)
            case FaultKind.SLOW:
                worker.slow = 10.0
                self._loop.call_later(fault.lasts_s, setattr, worker, "slow", 1.0)
            case FaultKind.FAIL if worker.health is WorkerHealth.WELL:
                worker.health = WorkerHealth.FAILING
                self._loop.call_later(fault.lasts_s, self._mend, worker, worker.incarnation)
            case FaultKind.DRAIN if worker.health is WorkerHealth.WELL:
                worker.drain()
                self._loop.call_later(fault.lasts_s, self._end_drain, worker, worker.incarnation)
            case FaultKind.REGISTRY_AWAY | FaultKind.REGISTRY_WIPED:
                self._registry_away = True
                self._apply()
                self._loop.call_later(fault.lasts_s, self._registry_back, fault.kind)
            case FaultKind.MANY_VANISH:
                for other in self.workers[: max(1, len(self.workers) // 2)]:
                    self._kill(other, fault.lasts_s)
            case _:
                pass

    def _kill(self, worker: SimWorker, lasts_s: float) -> None:
        if worker.health is WorkerHealth.DEAD:
            return
        worker.kill()
        self._loop.call_later(_BREAK_S, self._lose, worker, worker.incarnation)
        self._loop.call_later(lasts_s, self._start_again, worker, worker.starts)
        self._loop.call_later(_LEASE_S, self._lease_ends, worker, worker.starts)

    def _lease_ends(self, worker: SimWorker, starts: int) -> None:
        if worker.starts == starts:
            self._registered.pop(worker.id, None)
            self._apply()

    def _start_again(self, worker: SimWorker, starts: int) -> None:
        if worker.starts == starts:
            worker.restart()
            self._registered[worker.id] = _endpoint(worker)
            self._apply()
            self._report(worker)

    def _thaw(self, worker: SimWorker, incarnation: str) -> None:
        if worker.health is WorkerHealth.FROZEN and worker.incarnation == incarnation:
            worker.thaw()
            self._report(worker)

    def _mend(self, worker: SimWorker, incarnation: str) -> None:
        if worker.health is WorkerHealth.FAILING and worker.incarnation == incarnation:
            worker.health = WorkerHealth.WELL

    def _end_drain(self, worker: SimWorker, incarnation: str) -> None:
        if worker.incarnation == incarnation and worker.health is not WorkerHealth.DEAD:
            worker.hand_over()
            self._kill(worker, 0.5)

    def _registry_back(self, kind: FaultKind) -> None:
        self._registry_away = False
        if kind is FaultKind.REGISTRY_WIPED:
            known, self._registered = self._registered, {}
            self._apply()
            self._registered = known
            self._loop.call_later(1.0, self._apply)
        else:
            self._apply()


def _prefix_of(ask: Ask) -> PromptPrefix:
    blocks = range(1, len(ask.prefix) + 1)
    return PromptPrefix(
        hashes=(*ask.prefix, hash((ask.session, ask.prompt_tokens))),
        ends=(
            *(BLOCK_TOKENS * BYTES_PER_TOKEN * n for n in blocks),
            ask.prompt_tokens * BYTES_PER_TOKEN,
        ),
        is_whole=True,
    )


def _endpoint(worker: SimWorker) -> Endpoint:
    return Endpoint(
        id=worker.id,
        incarnation=worker.incarnation,
        address=worker.id,
        model=MODEL,
        revision="5" * 64,
        tasks=("generate",),
        context_length=8192,
        vocab_size=1000,
        fingerprint="sim",
        state=EndpointState.CONNECTING,
        load=Load(rows_max=worker.pace.rows_max),
    )
