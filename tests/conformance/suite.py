"""Clients × cases: three lanes side by side, each a cluster of its own, while clients are built."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final, get_args

from common.clock import Clock
from tests.conformance.case import CASES, Case, Lane, Report
from tests.conformance.clients import Client, Driver, SilentError
from tests.conformance.cluster import Stage, open_stage
from tests.conformance.judge import faults_of

__all__ = ["Verdict", "load_cases", "run_suite"]

_GRACE_S: Final = 20.0
"""Beyond what a case allows, before a driver counts as hung."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One client in one case."""

    client: str
    case: str
    faults: tuple[str, ...]
    took_s: float
    """With what the case makes of the cluster, mended."""

    @property
    def passed(self) -> bool:
        """Nothing is wrong."""
        return not self.faults


async def run_suite(
    clients: Sequence[Client],
    cases: Sequence[Case],
    clock: Clock,
    *,
    on_verdict: Callable[[Verdict], None],
) -> None:
    """Every client in every case; one that cannot be built fails them all. Raises `LeptonError` when a cluster cannot
    start.
    """
    with tempfile.TemporaryDirectory(prefix="lepton-conformance-") as folder:
        async with asyncio.TaskGroup() as group:
            built = {one.name: asyncio.get_running_loop().create_future() for one in clients}
            group.create_task(_build(clients, built))
            for lane in get_args(Lane):
                own = [case for case in cases if case.lane == lane]
                if own:
                    run = _LaneRun(lane, own, Path(folder, lane), clock, on_verdict)
                    group.create_task(run.run(clients, built))


def load_cases() -> list[Case]:
    """All of them."""
    return [Case.load(path) for path in sorted(CASES.glob("*.json"))]


async def _build(clients: Sequence[Client], built: dict[str, asyncio.Future[str]]) -> None:
    """One after another, since each build takes all cores; the result is what went wrong, or ""."""
    for client in clients:
        try:
            await client.make()
        except RuntimeError as error:
            built[client.name].set_result(str(error))
        else:
            built[client.name].set_result("")


@final
class _LaneRun:
    """The cases of one lane: clients one after another."""

    def __init__(
        self,
        lane: Lane,
        cases: Sequence[Case],
        folder: Path,
        clock: Clock,
        on_verdict: Callable[[Verdict], None],
    ) -> None:
        self._lane = lane
        self._cases = cases
        self._folder = folder
        self._clock = clock
        self._on_verdict = on_verdict

    async def run(self, clients: Sequence[Client], built: dict[str, asyncio.Future[str]]) -> None:
        async with open_stage(self._lane, self._folder, self._clock) as stage:
            for client in clients:
                broken = await built[client.name]
                async with client.drive() as driver:
                    for case in self._cases:
                        begin = self._clock.now()
                        faults = [broken] if broken else await self._faults(stage, driver, case)
                        verdict = Verdict(
                            client=client.name,
                            case=case.name,
                            faults=tuple(faults),
                            took_s=self._clock.now() - begin,
                        )
                        self._on_verdict(verdict)

    async def _faults(self, stage: Stage, driver: Driver, case: Case) -> list[str]:
        told = stage.begin(case)
        reports: list[Report] = []
        took_s: list[float] = []
        silent: list[str] = []
        for number in range(case.repeat):
            command = {"id": f"{case.name}-{number}", **told}
            begin = self._clock.now()
            try:
                reports.append(await driver.ask(command, within_s=case.expect.within_s + _GRACE_S))
            except SilentError as error:
                silent.append(str(error))
                break
            took_s.append(self._clock.now() - begin)
        seen = await stage.end(case)
        seen.report_s = tuple(took_s)
        return silent or faults_of(case, reports, seen)
