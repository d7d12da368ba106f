"""From the engine thread to the event loop: one callback per step; for a first token the event loop goes first."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import final

__all__ = ["HandOver"]


@final
class HandOver:
    """`open` is called on the event loop, the rest on the engine thread."""

    def __init__(self) -> None:
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._passed_on = threading.Event()

    def open(self) -> None:
        """From now on callbacks go to the event loop that runs here."""
        self._event_loop = asyncio.get_running_loop()

    def give(self, callback: Callable[[], None], *, wait_s: float = 0.0) -> None:
        """Has it called on the event loop, soon; before `open` nothing happens. With `wait_s` it returns when the tasks
        that it wakes have had their turn, after so many seconds at the latest.

        A step keeps every core busy: what is handed over just before it begins has to fight for one, hop by hop.
        Raises RuntimeError when the event loop is closed.
        """
        event_loop = self._event_loop
        if event_loop is None:
            return
        if not wait_s:
            event_loop.call_soon_threadsafe(callback)
            return
        self._passed_on.clear()

        def call() -> None:
            callback()
            # Behind the tasks: an event loop takes its callbacks in order.
            event_loop.call_soon(self._passed_on.set)

        event_loop.call_soon_threadsafe(call)
        self._passed_on.wait(wait_s)
