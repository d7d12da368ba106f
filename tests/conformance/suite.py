"""Clients × cases on clusters that start when the first case needs them."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from common.clock import Clock
from tests.conformance.case import CASES, Case, Report
from tests.conformance.clients import Client, Driver, SilentError
from tests.conformance.cluster import Stage, open_stage
from tests.conformance.judge import faults_of

__all__ = ["Suite", "Verdict", "load_cases", "open_suite"]

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


@final
class Suite:
    """Made by `open_suite`."""

    def __init__(self, folder: Path, clock: Clock, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._clock = clock
        self._stack = stack
        self._stages: dict[str, Stage] = {}

    async def run(self, client: Client, cases: Sequence[Case]) -> AsyncIterator[Verdict]:
        """Builds the client and gives it the cases, in order. RuntimeError when it cannot be built."""
        await client.make()
        async with client.drive() as driver:
            for case in cases:
                await self._stage(case)
                begin = self._clock.now()
                faults = await self._faults(driver, case)
                yield Verdict(
                    client=client.name,
                    case=case.name,
                    faults=tuple(faults),
                    took_s=self._clock.now() - begin,
                )

    async def _faults(self, driver: Driver, case: Case) -> list[str]:
        stage = await self._stage(case)
        addresses = stage.begin(case)
        reports: list[Report] = []
        took_s: list[float] = []
        silent: list[str] = []
        for number in range(case.repeat):
            command = {
                "id": f"{case.name}-{number}",
                "op": case.command.op,
                "addresses": addresses,
                "request": case.command.request,
                "options": case.command.options,
            }
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

    async def _stage(self, case: Case) -> Stage:
        if case.cluster not in self._stages:
            folder = self._folder / case.cluster
            stage = open_stage(case.cluster, folder, self._clock)
            self._stages[case.cluster] = await self._stack.enter_async_context(stage)
        return self._stages[case.cluster]


@asynccontextmanager
async def open_suite(clock: Clock) -> AsyncIterator[Suite]:
    """Resources: clusters and their folders end with the block."""
    with tempfile.TemporaryDirectory(prefix="lepton-conformance-") as folder:
        async with AsyncExitStack() as stack:
            yield Suite(Path(folder), clock, stack)


def load_cases() -> list[Case]:
    """All of them, those that break nothing first."""
    cases = [Case.load(path) for path in sorted(CASES.glob("*.json"))]
    return sorted(cases, key=lambda case: (case.cluster, case.fault.kills))
