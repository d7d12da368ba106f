"""Work for a client that may leave before it is done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive

from common.errors import Cancelled, Reason

__all__ = ["client_gone", "while_connected"]


def client_gone() -> Cancelled:
    """The error of a call whose client left; it goes into log and span, nobody else gets it."""
    return Cancelled("the client went away", reason=Reason.CLIENT_GONE)


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncIterator[None]:
    """Cancels the block when the client goes away, and raises `Cancelled(CLIENT_GONE)` then.

    To be entered after the body was read: whatever still comes is thrown away. Cancellation from outside passes.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - we are in a coroutine
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watching = asyncio.get_running_loop().create_task(watch(), name="client")
    try:
        yield
    except asyncio.CancelledError:
        if not gone:
            raise
        task.uncancel()
        raise client_gone() from None
    finally:
        watching.cancel()
