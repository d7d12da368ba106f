"""May a stream that has begun go on with another worker? Pure; who sends is the router's dispatcher. A client that
streams from workers itself decides alike (`lepton_client.moves`).

The client has a part of the answer and was promised the rest, so everything that is not the request's own fault moves
the stream, without asking the retry budget. What bounds the load is the number of moves per call.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from common.errors import LeptonError, Overloaded, Reason, Unavailable

__all__ = ["Break", "Migration", "MigrationLimits", "Moves", "break_of", "decide_migration"]

_SAME_EVERYWHERE: Final = frozenset({Reason.MODEL_OUTPUT_INVALID})
"""Errors of the worker that the same weights would give again."""

_NOT_THE_ONE: Final = frozenset(
    {
        Reason.CONTINUATION_UNSUPPORTED,
        Reason.MODEL_NOT_FOUND,
        Reason.REVISION_NOT_FOUND,
        Reason.TICKET_EXPIRED,
    }
)
"""How a worker says that it is not the one that we took it for, or that we came too late."""


class Break(Enum):
    """How an attempt at a stream that has begun came to its end."""

    FINAL = auto()
    """The request's own fault, its deadline, its client: another worker would end it alike."""
    LOSS = auto()
    """The worker died, froze, failed, or cut the stream."""
    HAND_OVER = auto()
    """The worker leaves, and asks for others to finish its streams."""
    REFUSAL = auto()
    """The worker was asked to go on, and declined before its first message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationLimits:
    """How often one stream may move."""

    migrations_max: int = 2
    """Workers that it may lose and still go on; 0: it never moves."""
    hand_overs_max: int = 16
    """Workers that may hand it over because they leave."""
    refusals_max: int = 2
    """Workers that may decline to go on with it."""


@dataclass(slots=True, kw_only=True)
class Moves:
    """How often one stream has moved, by why."""

    losses: int = 0
    hand_overs: int = 0
    refusals: int = 0

    @property
    def attempt(self) -> int:
        """Which continuation is next or under way, from 1; one that was refused is sent again as the same."""
        return self.losses + self.hand_overs

    def count(self, how: Break) -> None:
        """One more. A break that is final moves nothing."""
        self.losses += how is Break.LOSS
        self.hand_overs += how is Break.HAND_OVER
        self.refusals += how is Break.REFUSAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """What to do after a break."""

    allowed: bool
    why: str
    """One word for traces: "off", "final", "spent", "deadline", or "migrate"."""


def break_of(error: LeptonError, *, asked_to_go_on: bool) -> Break:
    """What `error` means for the stream. `asked_to_go_on`: the worker got a continuation and has sent nothing yet."""
    if asked_to_go_on and _declines(error):
        return Break.REFUSAL
    if not error.retryable or error.reason in _SAME_EVERYWHERE:
        return Break.FINAL
    if isinstance(error, Unavailable) and error.reason is not Reason.WORKER_LOST:
        return Break.REFUSAL if asked_to_go_on else Break.HAND_OVER
    return Break.LOSS


def _declines(error: LeptonError) -> bool:
    if error.field is not None and error.field.startswith("continuation"):
        return True  # our addition to the request is what it does not like
    return error.reason in _NOT_THE_ONE or isinstance(error, Overloaded)


def decide_migration(
    how: Break, *, moves: Moves, remaining_s: float, limits: MigrationLimits
) -> Migration:
    """Whether the stream may go on elsewhere.

    `moves` are those before; `remaining_s` is the time left until the call's deadline.
    """
    if limits.migrations_max == 0:
        return Migration(allowed=False, why="off")
    if how is Break.FINAL:
        return Migration(allowed=False, why="final")
    made, most = {
        Break.LOSS: (moves.losses, limits.migrations_max),
        Break.HAND_OVER: (moves.hand_overs, limits.hand_overs_max),
        Break.REFUSAL: (moves.refusals, limits.refusals_max),
    }[how]
    if made >= most:
        return Migration(allowed=False, why="spent")
    if remaining_s <= 0:
        return Migration(allowed=False, why="deadline")
    return Migration(allowed=True, why="migrate")
