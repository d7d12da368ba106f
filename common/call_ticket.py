r"""The ticket with which a client calls the worker that a router has picked for it.

    version | expires at, ms | number | on probation | router id \0 worker id \0 incarnation       under a seal

It holds once, for one worker and one caller, for a few seconds. Where the cluster has a token nobody else can make one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, final

from pydantic import SecretStr

from common.errors import Forbidden, Reason
from common.seal import Seal

__all__ = ["CLOCK_LEEWAY_S", "CallTicket", "CallTickets", "ticket_invalid"]

CLOCK_LEEWAY_S: Final = 2.0
"""By how much the clocks of two machines may differ: so much later a worker still takes a ticket."""

_CHARS_MAX: Final = 1024
"""Longer than any that we make: ids have at most 128 characters."""
_VERSION: Final = 1
_HEAD: Final = struct.Struct(">BQQ?")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTicket:
    """What a ticket says."""

    router_id: str
    """Who handed it out and counts the call; "" when the worker did so itself."""
    number: int
    """Tells the tickets of one router apart; below 2^64."""
    worker_id: str
    incarnation: str
    """Which start of the worker was picked."""
    expires_at: float
    """Seconds since 1970, whole milliseconds."""
    on_probation: bool = False
    """The call is under suspicion of having ended a worker: its router waits for a sign that it does no harm."""


@final
class CallTickets:
    """Makes and reads tickets. Processes with the same cluster token read each other's."""

    def __init__(self, cluster_token: SecretStr) -> None:
        self._seal = Seal(cluster_token, "lepton call ticket")

    def __repr__(self) -> str:
        return "CallTickets()"

    def make(self, ticket: CallTicket, caller: str) -> str:
        """The text of a ticket; `caller` is "" for callers without a name."""
        head = _HEAD.pack(
            _VERSION, round(ticket.expires_at * 1000), ticket.number, ticket.on_probation
        )
        names = "\0".join((ticket.router_id, ticket.worker_id, ticket.incarnation))
        return self._seal.close(head + names.encode(), caller)

    def read(self, text: str, caller: str, *, field: str | None = None) -> CallTicket:
        """What the ticket says, expired or not.

        Raises `Forbidden(TICKET_INVALID)` with `field` for one that is not ours or not this caller's.
        """
        body = self._seal.open(text, caller) if len(text) <= _CHARS_MAX else None
        if body is None or len(body) < _HEAD.size or body[0] != _VERSION:
            raise ticket_invalid("it was made up, or is for another caller", field=field)
        _, expires_ms, number, on_probation = _HEAD.unpack_from(body)
        router_id, worker_id, incarnation = body[_HEAD.size :].decode().split("\0")
        return CallTicket(
            router_id=router_id,
            number=number,
            worker_id=worker_id,
            incarnation=incarnation,
            expires_at=expires_ms / 1000,
            on_probation=on_probation,
        )


def ticket_invalid(why: str, *, field: str | None = None) -> Forbidden:
    """The refusal of a ticket that never held, or holds no more because it was used."""
    return Forbidden(
        f"this ticket does not hold: {why}; take a new one with Pick",
        reason=Reason.TICKET_INVALID,
        field=field,
    )
