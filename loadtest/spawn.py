"""A cluster for one run: started before, gone afterwards."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from agent.cluster import LocalCluster
from agent.models import choose_models
from agent.plan import make_plan
from agent.settings import AgentSettings
from agent.state import StateDir
from common.clock import SystemClock

__all__ = ["own_cluster"]


@asynccontextmanager
async def own_cluster(folder: Path, *, models: Sequence[str], workers: int) -> AsyncIterator[str]:
    """The address of a fresh cluster on free ports; without `models` it serves the demo model.

    Resources: every process ends with the block, also when this process is killed. Raises `LeptonError` when it cannot
    start.
    """
    settings, state = AgentSettings(), StateDir(folder)
    with state.lock():
        plan = make_plan(
            state=state,
            settings=settings,
            models=choose_models(models),
            workers=workers,
            env=dict(os.environ),
        )
        cluster = LocalCluster(plan, settings=settings, clock=SystemClock(), notify=lambda _: None)
        try:
            await cluster.start()
            yield plan.address
        finally:
            await cluster.stop()
