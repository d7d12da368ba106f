"""Request → `RoutingView`: the only reader of request fields in the router, beside the validator and `cost_of`."""

from __future__ import annotations

from common.request.prefix_of import prefix_of
from lepton.v1 import inference_pb2, types_pb2
from router.core.call import NO_COST, Cost, RoutingView

__all__ = ["view_of_generate", "view_of_model"]

_PRIORITY = {
    types_pb2.PRIORITY_LOW: -1,
    types_pb2.PRIORITY_HIGH: 1,
}


def view_of_generate(
    request: inference_pb2.GenerateRequest,
    *,
    caller: str = "",
    cost: Cost = NO_COST,
    prefix_hashes_max: int = 0,
) -> RoutingView:
    """Of a valid Generate request; `prefix_hashes_max` as in `prefix_of`."""
    level = request.service_level
    patient_s = level.queue_timeout_ms / 1000 if level.HasField("queue_timeout_ms") else None
    return RoutingView(
        model=request.model,
        revision=request.revision,
        session_key=request.session_key,
        priority=_PRIORITY.get(request.priority, 0),
        task="generate",
        caller=caller,
        cost=cost,
        queue_s_max=patient_s,
        prefix=prefix_of(request, prefix_hashes_max),
    )


def view_of_model(model: str) -> RoutingView:
    """Of a call that any worker of a model answers."""
    return RoutingView(model=model, task="", cost=Cost(rows=0))
