"""A thread that computes masks beside the model: from the moment a token is known until the next one is drawn.

llguidance lets go of the GIL, as ONNX Runtime does, so a mask costs the engine thread a hand-over. What one mask may
cost is bounded in work, not in time (`GrammarLimits`): a thread could not be stopped.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Protocol, final

__all__ = ["Fillable", "MaskThread"]


class Fillable(Protocol):
    """Something with a mask to compute."""

    def fill(self) -> None:
        """Called once per `begin`, on the thread. Raises nothing."""
        ...


@final
class MaskThread:
    """First come, first served. Bounded: a row of the batch has at most one mask to compute.

    Resources: a daemon thread, from the first mask until `close`.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[Fillable | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._main, name="grammar-masks", daemon=True)

    def begin(self, owner: Fillable) -> None:
        """Has `owner.fill` called; returns at once."""
        if self._thread.ident is None:
            self._thread.start()
        self._queue.put(owner)

    def close(self) -> None:
        """Ends the thread after what was begun."""
        self._queue.put(None)

    def _main(self) -> None:
        while (owner := self._queue.get()) is not None:
            owner.fill()
            del owner
