"""Where readers put what they find: pieces in order, neighbours of one kind joined."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Final, final

from gateway.tools.api import ArgumentsDelta, CallBegun, CallEnded, Piece, TextDelta

__all__ = ["Emitter", "IdOf", "call_id"]

IdOf = Callable[[str, int], str]
"""(seed, index of the call) → its id."""

_ID_CHARS: Final = 24


def call_id(seed: str, index: int) -> str:
    """The same for the same seed, so that a stream that is read again has the same calls."""
    return f"call_{digest(seed, index)[:_ID_CHARS]}"


def digest(seed: str, index: int) -> str:
    """Hex digits for an id."""
    return blake2b(f"{index}:{seed}".encode(), digest_size=16).hexdigest()


@final
class Emitter:
    """Collects what one answer holds, in order."""

    def __init__(self, names: Iterable[str], id_seed: str, id_of: IdOf = call_id) -> None:
        """`names`: the tools that may be called."""
        self.names = frozenset(names)
        self.num_calls = 0
        self._id_seed = id_seed
        self._id_of = id_of
        self._pieces: list[Piece] = []
        self._parts: list[str] = []
        """Texts that become one delta."""
        self._is_inside = False
        """Whether they are arguments."""

    def text(self, text: str) -> None:
        self._parts.append(text)

    def begin(self, name: str) -> None:
        """A call of one of `names`."""
        self._flush()
        index = self.num_calls
        self.num_calls += 1
        self._is_inside = True
        self._pieces.append(CallBegun(index, self._id_of(self._id_seed, index), name))

    def arguments(self, text: str) -> None:
        """More of the call that was begun last."""
        self._parts.append(text)

    def end(self, *, is_whole: bool) -> None:
        """Nothing more of the call that was begun last."""
        self._flush()
        self._is_inside = False
        self._pieces.append(CallEnded(self.num_calls - 1, is_whole))

    def take(self) -> list[Piece]:
        """What came since the last time."""
        self._flush()
        pieces, self._pieces = self._pieces, []
        return pieces

    def _flush(self) -> None:
        text = "".join(self._parts)
        self._parts.clear()
        if text:
            delta = ArgumentsDelta(self.num_calls - 1, text) if self._is_inside else TextDelta(text)
            self._pieces.append(delta)
