"""A coroutine that runs beside its owner, and is never left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["Background"]


class Background:
    """One task with an owner: it starts now and is over when `close` returns.

    For owners whose life is not one `async with` block (a registration, an async generator), where a TaskGroup
    cannot be used.

    Resources: the task; `close` must be called. Errors: the coroutine should handle its own; one that
    escapes is raised by `close`. Cancellation: a cancelled `close` has still told the task to end.
    """

    def __init__(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        self._task = asyncio.get_running_loop().create_task(work, name=name)

    async def close(self) -> None:
        """Cancels the work and waits until it has ended."""
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled() and (error := self._task.exception()):
            raise error
