"""`python -m loadtest.soak.worker …`: a real worker process that tells its tasks when it is asked to.

SIGUSR1 → a line `{"event": "soak.vitals", "tasks": n}` on stderr. `LEPTON_SOAK_LEAK_KIB` plants a leak: that much
memory is held for ever for each request, the negative control of the soak. All flags are those of `lepton-worker`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from common.process import StopRequest, run_process
from worker.app import PROCESS, serve
from worker.engine.loop import EngineLoop
from worker.engine.request import EngineRequest
from worker.engine.stream import TokenStream

__all__ = ["LEAK_ENV", "VITALS_EVENT", "main"]

LEAK_ENV: Final = "LEPTON_SOAK_LEAK_KIB"
VITALS_EVENT: Final = "soak.vitals"

_leaked: Final[list[bytes]] = []


def main() -> int:
    """Runs the worker; returns its exit code."""
    if leak_kib := int(os.environ.pop(LEAK_ENV, "0")):
        _plant_leak(leak_kib << 10)
    return run_process(replace(PROCESS, serve=_serve))


async def _serve(sections: Mapping[str, Any], stop: StopRequest) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _tell)
    await serve(sections, stop)


def _tell() -> None:
    gc.collect()  # what only waits for the next collection is no leak
    tasks = sum(not task.done() for task in asyncio.all_tasks())
    print(json.dumps({"event": VITALS_EVENT, "tasks": tasks}), file=sys.stderr, flush=True)


def _plant_leak(num_bytes: int) -> None:
    submit = EngineLoop.submit

    def leaking(engine: EngineLoop, request: EngineRequest) -> TokenStream:
        _leaked.append(b"\1" * num_bytes)  # written to: memory that nobody touched is not resident
        return submit(engine, request)

    EngineLoop.submit = leaking  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(main())
