"""Metadata keys that Lepton's processes use among themselves and towards clients."""

from __future__ import annotations

from typing import Final

__all__ = [
    "CALLER_KEY",
    "CLUSTER_TOKEN_KEY",
    "FINISHED_KEY",
    "LET_GO_KEY",
    "REPLAY_KEY",
    "REQUEST_ID_KEY",
    "ROUTER_ID_KEY",
    "TICKET_KEY",
    "TRACE_ID_KEY",
]

CLUSTER_TOKEN_KEY: Final = "lepton-cluster-token"  # noqa: S105 - the key, not the token
"""Request metadata: proves a router to a worker."""

CALLER_KEY: Final = "lepton-caller"
"""Request metadata: on whose behalf a client calls. Callers share a full router fairly, and none gets
another's call; nobody checks the name yet. Routers pass it on to workers."""

ROUTER_ID_KEY: Final = "lepton-router-id"
"""Request metadata: which router process sent the call, for its share of `in_flight_of_router`."""

TICKET_KEY: Final = "lepton-ticket"
"""Request metadata: proves to a worker that a router has picked it for this call of this client."""

REPLAY_KEY: Final = "lepton-replay"
"""Request metadata, with `resume`: the value "whole" asks for the stream from its beginning, where that is still kept.
Whoever asks takes out what its own client has."""

LET_GO_KEY: Final = "lepton-let-go"
"""Request metadata of `Abort`, any value: only whoever sends it has given the call up. It ends when nobody else follows
it any more."""

REQUEST_ID_KEY: Final = "lepton-request-id"
"""Request and initial response metadata, of a refusal also trailing: the id in logs and traces."""

TRACE_ID_KEY: Final = "lepton-trace-id"
"""Initial response metadata, of a refusal also trailing: what to give to `lepton trace`."""

FINISHED_KEY: Final = "lepton-finished-bin"
"""Trailing response metadata: a serialised `lepton.v1.Finished`. OK without it is a stream that broke."""
