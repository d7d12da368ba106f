"""The last messages of one call, by `seq`: what a client that lost its connection asks for again.

     dropped            kept
    ┌─ ─ ─ ─ ─┬──────┬─────────┬───┐
      0 1 2     3 4    5 6 7     8      next_seq = 9
    └─ ─ ─ ─ ─┴──────┴─────────┴───┘
              first_seq = 3; three messages

Messages are serialised `GenerateResponse`s, kept as they are; two of them merge by concatenating their bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from operator import itemgetter
from typing import Final, final

from lepton.v1 import inference_pb2

__all__ = ["ReplayBudget", "ReplayRing"]

_MESSAGE_COST: Final = 150
"""Memory of a kept message beside its bytes: two objects and their places."""

_first_seq_of = itemgetter(0)


@final
class ReplayBudget:
    """What all rings of a process hold together, bytes."""

    def __init__(self) -> None:
        self.num_bytes = 0


@final
class ReplayRing:
    """Belongs to one event loop. The last message always stays, whatever `bytes_max` says."""

    def __init__(self, budget: ReplayBudget, *, bytes_max: int, first_seq: int = 0) -> None:
        self._budget = budget
        self._bytes_max = bytes_max
        self._messages: deque[tuple[int, bytes]] = deque()
        self._num_bytes = 0
        self._next_seq = first_seq

    def __repr__(self) -> str:
        return f"ReplayRing({self.first_seq}..{self._next_seq}, {self._num_bytes} bytes)"

    @property
    def first_seq(self) -> int:
        """`seq` of the oldest event that is kept; `next_seq` when there is none."""
        return self._messages[0][0] if self._messages else self._next_seq

    @property
    def next_seq(self) -> int:
        """`seq` of the event after the last one."""
        return self._next_seq

    @property
    def num_bytes(self) -> int:
        """Memory in use."""
        return self._num_bytes

    def append(self, message: bytes, *, next_seq: int) -> None:
        """Keeps a message with the events from the last `next_seq` to the new one, and drops what is over the bound."""
        self._messages.append((self._next_seq, message))
        self._next_seq = next_seq
        self._use(len(message) + _MESSAGE_COST)
        while self._num_bytes > self._bytes_max and self.drop_oldest():
            pass

    def drop_oldest(self) -> bool:
        """Drops one message; False when only the last one is left."""
        if len(self._messages) < 2:
            return False
        _, message = self._messages.popleft()
        self._use(-len(message) - _MESSAGE_COST)
        return True

    def read(self, seq: int, *, bytes_max: int) -> tuple[bytes, int]:
        """The events from `seq` on as one message, and the `seq` after them.

        Whole messages up to about `bytes_max`, at least one. `seq` must lie in first_seq … next_seq - 1.
        """
        index = self._index_of(seq)
        message = self._trimmed(index, seq)
        end = index + 1
        if end < len(self._messages):
            parts = [message]
            num_bytes = len(message)
            while end < len(self._messages) and num_bytes < bytes_max:
                parts.append(self._messages[end][1])
                num_bytes += len(parts[-1])
                end += 1
            message = b"".join(parts)
        return message, self._messages[end][0] if end < len(self._messages) else self._next_seq

    def clear(self) -> None:
        """Gives the memory back."""
        self._messages.clear()
        self._use(-self._num_bytes)

    def _index_of(self, seq: int) -> int:
        last = len(self._messages) - 1
        if self._messages[last][0] <= seq:  # whoever reads as fast as the engine computes
            return last
        return bisect_right(self._messages, seq, key=_first_seq_of) - 1

    def _trimmed(self, index: int, seq: int) -> bytes:
        first_seq, message = self._messages[index]
        if first_seq == seq:
            return message
        response = inference_pb2.GenerateResponse.FromString(message)
        del response.events[: seq - first_seq]
        return response.SerializeToString()

    def _use(self, num_bytes: int) -> None:
        self._num_bytes += num_bytes
        self._budget.num_bytes += num_bytes
