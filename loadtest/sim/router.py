"""One router of a world: the router's own core as it is, and what it hears of the simulated workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Final, final

from common.clock import Clock
from common.errors import LeptonError
from common.request.migration import MigrationLimits
from loadtest.sim.codec import SimCodec
from loadtest.sim.trace import Ask
from loadtest.sim.worker import Pace, SimCall, SimWorker, WorkerHealth
from router.core.admission.demand import Band
from router.core.admission.gate import Admission
from router.core.admission.limits import AdmissionLimits
from router.core.call import Call, RoutingView
from router.core.dispatcher import Dispatcher, DispatchLimits
from router.core.endpoint import Endpoint, Load
from router.core.health.outliers import HealthLimits, Outliers
from router.core.policy.api import Policy
from router.core.policy.prefix_table import CacheNews, PrefixTable
from router.core.policy.registry import make_policy
from router.core.policy.scorers.prefix import PrefixScorer
from router.core.pool import EndpointPool
from router.core.ports import WorkerReply
from router.core.quarantine import QuarantineLimits
from router.core.retry import RetryLimits
from router.core.route import Route

__all__ = ["SimRouter", "WorldShape"]

_PREFIX_TABLE_BYTES: Final = 32 << 20
_PREFIX_TTL_S: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldShape:
    """What is simulated."""

    workers: int
    policy: str
    pace: Pace = field(default_factory=Pace)
    affinity: bool = True
    """Whether prompts that begin alike prefer the same worker."""
    routers: int = 1
    """Each request goes to a random one."""
    digests: bool = True
    """Whether workers tell what their caches hold."""


@final
class SimRouter:
    """`ask` finds the request of an index; it is called once for each attempt to answer it."""

    def __init__(
        self,
        name: str,
        shape: WorldShape,
        workers: Mapping[str, SimWorker],
        ask: Callable[[int], Ask],
        clock: Clock,
        random: Random,
    ) -> None:
        self.name = name
        self._workers = workers
        self._ask = ask
        self._clock = clock
        self._digests = shape.digests
        self._heard: dict[tuple[str, str], int] = {}
        """How far, of the digest of each incarnation."""
        self._table = PrefixTable(bytes_max=_PREFIX_TABLE_BYTES, ttl_s=_PREFIX_TTL_S)
        self.pool = EndpointPool(
            clock,
            hold_down_s_max=60.0,
            abandon_s=2.0,
            remember_s=300.0,
            slow_start_s=10.0,
            health=Outliers(HealthLimits(), random),
        )
        policy = self._policy(shape, random)
        self.admission = Admission(
            pool=self.pool,
            limits=AdmissionLimits(in_flight_max=100_000),
            observer=_Nobody(),
            clock=clock,
            known_bytes=policy.known_bytes,
        )
        self.dispatcher = Dispatcher(
            pool=self.pool,
            admission=self.admission,
            policy=policy,
            worker=self,
            observer=_Nobody(),
            codec=SimCodec(),
            limits=DispatchLimits(
                wait_for_worker_s_max=5.0,
                retry=RetryLimits(),
                migration=MigrationLimits(),
                quarantine=QuarantineLimits(),
            ),
            clock=clock,
        )

    # --- router.core.ports.WorkerClient ---

    def generate(self, endpoint: Endpoint, payload: bytes, call: Call) -> SimCall:
        """See `WorkerClient`."""
        index, _, start = payload.partition(b":")
        return self._workers[endpoint.id].submit(self._ask(int(index)), int(start or 0), self.name)

    def unary(self, endpoint: Endpoint, method: str, payload: bytes, call: Call) -> WorkerReply:
        """Nobody asks."""
        raise NotImplementedError

    def let_go(self, endpoint: Endpoint, request: bytes, call: Call) -> None:
        """No call outlives its connection."""

    # --- what it hears ---

    def hear(self, worker: SimWorker) -> None:
        """A report of a worker that lives."""
        calls = (*worker.running, *worker.waiting)
        load = Load(
            step=worker.tokens_done,
            decode_rows=len(worker.running),
            decode_tokens_per_s=1.0 / worker.step_s,
            prefill_tokens_per_s=worker.pace.prefill_tokens_per_s / worker.slow,
            running=len(worker.running),
            waiting=len(worker.waiting),
            rows_max=worker.pace.rows_max,
            waiting_tokens=sum(call.ask.prompt_tokens for call in worker.waiting),
            in_flight_of_router=sum(call.router == self.name for call in calls),
            received_at=self._clock.now(),
        )
        self.pool.report(worker.id, worker.incarnation, load, draining=worker.draining)
        if self._digests:
            self._hear_digest(worker)

    def look_after(self) -> None:
        """What happens several times a second."""
        for endpoint in self.pool.due_probes():
            well = self._workers[endpoint.id].health is WorkerHealth.WELL
            self.pool.probed(endpoint, passed=well)
        for tracked in self.pool.sweep():
            tracked.abandon()

    def _hear_digest(self, worker: SimWorker) -> None:
        home = (worker.id, worker.incarnation)
        news = worker.digest.since(self._heard.get(home))
        self._heard[home] = news.number
        told = CacheNews(is_whole=news.is_whole, held=news.held, gone=news.gone)
        self._table.hear(home, told, self._clock.now())

    # --- whether all is well ---

    def faults(self) -> Iterator[str]:
        """What may never be true once every call has ended."""
        if self.dispatcher.in_flight:
            yield f"{self.dispatcher.in_flight} calls are still counted as in flight"
        if self.dispatcher.num_suspects:
            yield f"{self.dispatcher.num_suspects} calls are still under suspicion"
        if any(self.admission.num_waiting(band) for band in Band):
            yield f"calls still wait: {self.admission!r}"
        held = sum(
            endpoint.in_flight for e in self.pool.snapshot().models.values() for endpoint in e
        )
        if held:
            yield f"{held} calls are still counted on endpoints"
        try:
            self.pool.check_integrity()
        except AssertionError as error:
            yield f"the pool contradicts itself: {error}"

    def _policy(self, shape: WorldShape, random: Random) -> Policy:
        if not shape.affinity:
            return make_policy(shape.policy, random)
        return make_policy(shape.policy, random, PrefixScorer(self._table, self._clock))


@final
class _Nobody:
    """Watches nothing."""

    @contextmanager
    def choosing(self, route: Route) -> Iterator[None]:
        yield

    @contextmanager
    def queueing(self, route: Route, predicted_s: float | None) -> Iterator[None]:
        yield

    def admitted(self, route: Route, view: RoutingView) -> None: ...

    def refused(self, error: LeptonError) -> None: ...
