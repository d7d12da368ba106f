"""A runner that waits for the readers, so that a stream is cut into deltas in one way only.

runner = PacedRunner(FakeRunner())
async with worker_of(runner) as worker:
    runner.engine = worker.running.engine
"""

from __future__ import annotations

import asyncio
import threading

from worker.engine.loop import EngineLoop
from worker.engine.ports import Batch, CacheLayout, ModelRunner, Sampled
from worker.engine.sequence import Sequence

__all__ = ["PacedRunner"]

_ROUNDS_MAX = 10_000
"""Then a step goes on although somebody has not read: a reader may have left."""


class PacedRunner:
    """A step begins when readers have read what came before: then each token is a delta, whatever else is busy."""

    def __init__(self, runner: ModelRunner) -> None:
        self._runner = runner
        self._event_loop = asyncio.get_running_loop()
        self.engine: EngineLoop | None = None
        """Whose readers; None: nobody is waited for."""

    @property
    def layout(self) -> CacheLayout:
        return self._runner.layout

    def rest(self) -> None:
        self._runner.rest()

    def release(self, sequence: Sequence) -> None:
        self._runner.release(sequence)

    def run(self, batch: Batch) -> list[Sampled]:
        for _ in range(_ROUNDS_MAX if self.engine else 0):
            # What was handed over before has been delivered when this has been called.
            delivered = threading.Event()
            self._event_loop.call_soon_threadsafe(delivered.set)
            delivered.wait(5)
            if self.engine and not any(stream._steps for stream in self.engine._streams):
                break
        return self._runner.run(batch)
