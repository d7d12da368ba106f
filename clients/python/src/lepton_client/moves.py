"""May a direct stream go on with another worker? Pure; the rules are those of the cluster's routers.

The client has a part of the answer and was promised the rest, so everything that is not the request's own fault moves
the stream. What bounds the load is the number of moves per call.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum, auto
from typing import Final, final

from lepton_client.errors import Internal, LeptonError, Overloaded, Unavailable

__all__ = ["LOSSES_MAX", "Break", "Moves", "break_of"]

_SAME_EVERYWHERE: Final = frozenset({"MODEL_OUTPUT_INVALID"})
"""What the same weights would give again."""

_NOT_THE_ONE: Final = frozenset(
    {"CONTINUATION_UNSUPPORTED", "MODEL_NOT_FOUND", "REVISION_NOT_FOUND", "TICKET_EXPIRED"}
)
"""How a worker says that it is not the one that it was taken for, or that we came too late."""


class Break(Enum):
    """How an attempt at a worker came to its end."""

    FINAL = auto()
    """The request's own fault, or its deadline: another worker would end it alike."""
    LOSS = auto()
    """The worker died, froze, failed, or cut the stream."""
    HAND_OVER = auto()
    """The worker leaves, and asks for others to finish its streams."""
    REFUSAL = auto()
    """The worker declined before its first message."""


LOSSES_MAX: Final = 2
"""Workers that one call may lose and still go on, unless something else is said."""

_MOST: Final = {Break.FINAL: 0, Break.HAND_OVER: 16, Break.REFUSAL: 2}
"""Times that one call may break in other ways."""


@final
class Moves:
    """How often one call has moved, by why."""

    def __init__(self, losses_max: int = LOSSES_MAX) -> None:
        """`losses_max` 0: it never moves."""
        self._most = {**_MOST, Break.LOSS: losses_max} if losses_max else dict.fromkeys(Break, 0)
        self._made: Counter[Break] = Counter()

    @property
    def attempt(self) -> int:
        """Which continuation is next or under way, from 1; one that was refused is sent again as the same."""
        return self._made[Break.LOSS] + self._made[Break.HAND_OVER]

    def count(self, how: Break) -> bool:
        """Whether the stream may move once more; counts it."""
        if self._made[how] >= self._most[how]:
            return False
        self._made[how] += 1
        return True


def break_of(error: LeptonError, *, has_answered: bool) -> Break:
    """What `error` means for the stream. `has_answered`: the worker of this attempt has sent something."""
    if not has_answered and _declines(error):
        return Break.REFUSAL
    is_ours = not isinstance(error, Overloaded | Unavailable | Internal)
    if is_ours or error.reason in _SAME_EVERYWHERE:
        return Break.FINAL
    if isinstance(error, Unavailable) and error.reason != "WORKER_LOST":
        return Break.HAND_OVER if has_answered else Break.REFUSAL
    return Break.LOSS


def _declines(error: LeptonError) -> bool:
    if error.field is not None and error.field.startswith("continuation"):
        return True  # our addition to the request is what it does not like
    return error.reason in _NOT_THE_ONE or isinstance(error, Overloaded)
