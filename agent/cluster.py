"""A whole cluster on this machine: started in order, watched, stopped in order, never left behind.

start   lock, registry, then workers and router side by side, until the router lists every model
stop    router (finishes its calls), then the workers, then the registry
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections import Counter
from collections.abc import Coroutine, Iterable
from typing import Any, Final, final

from pydantic import SecretStr

from agent.front_door import wait_models
from agent.notices import Notice, Notify, Stage
from agent.plan import ClusterPlan
from agent.roles import ETCD, ROUTER, etcd_role, router_role, worker_role
from agent.settings import AgentSettings
from agent.state import ClusterState, ProcessState, started_at
from agent.supervisor import Role, Supervisor
from common.clock import Clock
from common.errors import LeptonError, Reason, Unavailable
from common.release import release

__all__ = ["LocalCluster"]

_TOKEN_BYTES: Final = 32
_WRITTEN_ON: Final = frozenset({Stage.READY, Stage.ENDED, Stage.GIVEN_UP, Stage.STARTING})


@final
class LocalCluster:
    """One `lepton up`.

    Resources: everything it starts is gone after `stop`, or when this process dies. Errors: `start` raises `Conflict`,
    `BadModel` or `Unavailable`; call `stop` then, too. Cancellation: `start` may be cancelled; `stop` follows.
    """

    def __init__(
        self, plan: ClusterPlan, *, settings: AgentSettings, clock: Clock, notify: Notify
    ) -> None:
        self.plan = plan
        self._settings = settings
        self._clock = clock
        self._show = notify
        self._token = (
            plan.cluster.token
            if plan.cluster.token.get_secret_value()
            else SecretStr(secrets.token_urlsafe(_TOKEN_BYTES))
        )
        self._registry: Supervisor | None = None
        self._workers: list[Supervisor] = []
        self._router: Supervisor | None = None
        self._broken = asyncio.Event()
        self._open = False
        self.started = False
        """Whether `start` has come to its end."""

    @property
    def state(self) -> ClusterState:
        """What other commands need to know, as of now."""
        plan = self.plan
        return ClusterState(
            version=release(),
            agent_pid=os.getpid(),
            agent_started=started_at(os.getpid()),
            address=plan.address,
            http_address=plan.http_address
            if self._router and self._router.facts.get("http_address")
            else "",
            metrics_address=self._router.facts.get("metrics_address", "") if self._router else "",
            etcd_endpoints=(plan.etcd.ports.endpoint,) if plan.etcd else (),
            registry_dir=None if plan.etcd else plan.state.registry,
            trace_dir=plan.state.traces,
            token=self._token,
            processes=tuple(
                ProcessState(
                    name=one.role.name,
                    pid=one.pid,
                    address=one.facts.get("address", ""),
                    metrics_address=one.facts.get("metrics_address", ""),
                )
                for one in self._all()
            ),
        )

    async def start(self) -> None:
        """Returns when the router lists every model with all of its workers.

        To be called under `plan.state.lock()`.
        """
        plan, settings = self.plan, self._settings
        plan.state.prepare()
        self._open = True
        if plan.etcd:
            self._registry = self._add(etcd_role(plan, plan.etcd, settings, self._clock))
            await self._registry.wait_ready()
        for worker in plan.workers:
            self._workers.append(self._add(worker_role(plan, worker, settings, self._token)))
        self._router = self._add(router_role(plan, settings, self._token))
        await _all_or_first_error(one.wait_ready() for one in (*self._workers, self._router))
        await self._wait_listed()
        self._write()
        self.started = True

    async def wait_broken(self) -> LeptonError:
        """Returns why, when the cluster cannot answer any more: no router or no worker, and no restart to come."""
        await self._broken.wait()
        return next(error for one in reversed(self._all()) if (error := one.given_up))

    async def stop(self) -> None:
        """Ends everything in order, each within its bound. Safe to call when the start failed half-way."""
        for rank in ((self._router,), tuple(self._workers), (self._registry,)):
            await asyncio.gather(*(one.stop() for one in rank if one is not None))
        if self._open:
            self._open = False
            self.plan.state.forget()

    def kill(self) -> None:
        """Ends everything at once; never blocks. `stop` must still follow."""
        for one in self._all():
            one.kill()

    def _add(self, role: Role) -> Supervisor:
        one = Supervisor(role, settings=self._settings, clock=self._clock, notify=self._notify)
        one.start()
        return one

    def _all(self) -> tuple[Supervisor, ...]:
        every = (self._registry, *self._workers, self._router)
        return tuple(one for one in every if one is not None)

    async def _wait_listed(self) -> None:
        wanted = Counter(worker.model.name for worker in self.plan.workers)
        try:
            async with asyncio.timeout(self._settings.ready_s_max):
                await wait_models(self.plan.address, wanted, self._clock)
        except TimeoutError:
            raise Unavailable(
                f"the router at {self.plan.address} did not find its {sum(wanted.values())} workers within "
                f"{self._settings.ready_s_max:g} s (logs: {self.plan.state.logs})",
                reason=Reason.PROCESS_FAILED,
            ) from None

    def _notify(self, notice: Notice) -> None:
        if notice.stage is Stage.GIVEN_UP:
            self._judge(notice.name)
        if self._open and notice.stage in _WRITTEN_ON:
            self._write()
        # A terminal that was closed, or `| head` that has seen enough, is no reason to lose a process.
        with contextlib.suppress(OSError):
            self._show(notice)

    def _judge(self, name: str) -> None:
        """Traffic goes on without the registry and with fewer workers, but not without router or any worker."""
        if name == ETCD:
            return
        if name == ROUTER or all(worker.given_up for worker in self._workers):
            self._broken.set()

    def _write(self) -> None:
        # A full disk must not end a cluster that answers; `lepton ps` then shows what was written last.
        with contextlib.suppress(OSError):
            self.plan.state.write(self.state)


async def _all_or_first_error(waits: Iterable[Coroutine[Any, Any, Any]]) -> None:
    try:
        async with asyncio.TaskGroup() as tasks:
            for wait in waits:
                tasks.create_task(wait)
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
