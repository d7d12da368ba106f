"""What the edge of a call says: who calls, under which id, until when."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from common.request.request_id import is_request_id
from common.rpc.caller import caller_of
from common.rpc.metadata import LET_GO_KEY, REPLAY_KEY, REQUEST_ID_KEY, ROUTER_ID_KEY

__all__ = ["CallFacts", "ServicerContext", "deadline_of", "facts_of"]


class ServicerContext(Protocol):
    """The part of grpc.aio's context that the services use."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...

    def peer(self) -> str: ...

    def time_remaining(self) -> float | None: ...

    async def send_initial_metadata(self, metadata: Iterable[tuple[str, str]]) -> None: ...

    def set_trailing_metadata(self, metadata: Iterable[tuple[str, str | bytes]]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFacts:
    """Read once per call."""

    request_id: str
    """From the metadata, else made here: always of the allowed form."""
    router_id: str
    """Empty when no router sent the call."""
    caller: str = ""
    """Who is asking; empty for callers without a name."""
    wants_whole: bool = False
    """A resumed call is to be sent from its beginning, where that is still kept."""
    lets_go: bool = False
    """An aborted call goes on for others who follow it."""
    has_ticket: bool = False
    """A router picked this worker for the call; `router_id` is its id."""


def facts_of(context: ServicerContext, *, request_id: str = "") -> CallFacts:
    """`request_id` is what the message says; the metadata weigh more, since a router sets them."""
    metadata = {
        key: value
        for key, value in context.invocation_metadata() or ()
        if key in {LET_GO_KEY, REPLAY_KEY, REQUEST_ID_KEY, ROUTER_ID_KEY} and isinstance(value, str)
    }
    named = (metadata.get(REQUEST_ID_KEY, ""), request_id, f"req-{secrets.token_hex(8)}")
    return CallFacts(
        request_id=next(filter(is_request_id, named)),
        router_id=metadata.get(ROUTER_ID_KEY, "")[:128],
        caller=caller_of(context),
        wants_whole=metadata.get(REPLAY_KEY) == "whole",
        lets_go=LET_GO_KEY in metadata,
    )


def deadline_of(context: ServicerContext, *, now: float, deadline_s_max: float) -> float:
    """When the call must be over, clock of `now`: the caller's deadline, but `deadline_s_max` from now at most."""
    remaining = context.time_remaining()
    return now + (deadline_s_max if remaining is None else min(max(remaining, 0.0), deadline_s_max))
