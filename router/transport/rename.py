"""A request for an alias, as a request for the model that it means."""

from __future__ import annotations

from dataclasses import replace

from lepton.v1 import inference_pb2
from router.core.alias import Aliases
from router.core.call import RoutingView
from router.core.pool import PoolSnapshot

__all__ = ["NamedRequest", "renamed"]

NamedRequest = (
    inference_pb2.GenerateRequest
    | inference_pb2.TokenizeRequest
    | inference_pb2.DetokenizeRequest
    | inference_pb2.CountTokensRequest
)
"""Messages that name a model."""


def renamed(
    payload: bytes,
    view: RoutingView,
    aliases: Aliases,
    snapshot: PoolSnapshot,
    message: type[NamedRequest],
) -> tuple[bytes, RoutingView]:
    """Both as they are when `view` names no alias. Otherwise model and revision are appended to the serialised
    `message`: of a field that comes twice, the last one holds.
    """
    target = aliases.target_of(view, snapshot)
    if target is None:
        return payload, view
    meant = message(model=target.model)
    if isinstance(meant, inference_pb2.GenerateRequest):
        meant.revision = target.revision
    view = replace(view, model=target.model, revision=target.revision)
    return payload + meant.SerializeToString(), view
