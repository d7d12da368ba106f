"""Faults of the machine that everything runs on."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Final

from chaos.scenario import FaultWish
from chaos.stage import Stage

__all__ = ["starve"]

_LOOP: Final = "import os, sys\nparent = int(sys.argv[1])\nwhile os.getppid() == parent:\n    sum(range(10**6))"
"""Ends by itself when this process is killed."""


async def starve(stage: Stage, wish: FaultWish) -> None:
    """Processes that only compute, `loops` of them for `for_s`: more than there are processors."""
    loops = int(wish.args.get("loops", 8))
    stage.note(f"{loops} busy loops on {os.cpu_count()} processors")
    busy = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", _LOOP, str(os.getpid()))
        for _ in range(loops)
    ]
    try:
        await stage.clock.sleep(wish.for_s)
    finally:
        for process in busy:
            process.kill()
        await asyncio.gather(*(process.wait() for process in busy))
    stage.tell("the loops end")
