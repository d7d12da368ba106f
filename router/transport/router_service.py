"""`lepton.v1.RouterService`: what operators ask a router."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, final

import grpc

from common.clock import Clock
from common.cluster import ClusterSettings
from common.errors import Forbidden, Reason
from common.limits import Limits
from common.request.parse import parse_message
from common.request.validate import validate_generate
from common.rpc.auth import is_router
from lepton.v1 import inference_pb2, router_pb2
from router.core.alias import Aliases
from router.core.endpoint import Endpoint
from router.core.policy.api import Candidate, Explanation, Policy
from router.core.pool import EndpointPool
from router.core.resolve import resolve
from router.transport.rename import renamed
from router.transport.view_of import view_of_generate

__all__ = ["ROUTER_SERVICE", "RouteExplainer"]

ROUTER_SERVICE: Final = "lepton.v1.RouterService"


@final
class RouteExplainer:
    """The handlers; every call needs the cluster token. Errors are raised as `LeptonError`."""

    def __init__(
        self,
        *,
        pool: EndpointPool,
        policy: Policy,
        aliases: Aliases,
        limits: Limits,
        prefix_hashes_max: int,
        cluster: ClusterSettings,
        clock: Clock,
    ) -> None:
        self._pool = pool
        self._policy = policy
        self._aliases = aliases
        self._limits = limits
        self._prefix_hashes_max = prefix_hashes_max
        self._cluster = cluster
        self._clock = clock

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """Method name → handler, for `RpcServer.add_service`."""
        return {"ExplainRoute": grpc.unary_unary_rpc_method_handler(self.explain_route)}

    async def explain_route(self, payload: bytes, context: Any) -> bytes:
        """Where a request would go now. Nothing is sent, drawn for good, or remembered."""
        if not is_router(context, self._cluster):
            raise Forbidden(
                "this call is for operators; it needs the cluster token",
                reason=Reason.CLUSTER_TOKEN_INVALID,
            )
        request = parse_message(router_pb2.ExplainRouteRequest, payload).request
        validate_generate(request, self._limits, may_continue=False)
        snapshot = self._pool.snapshot()
        view = view_of_generate(request, prefix_hashes_max=self._prefix_hashes_max)
        _, view = renamed(b"", view, self._aliases, snapshot, inference_pb2.GenerateRequest)
        endpoints = resolve(view, snapshot, self._aliases.targets)
        response = _response(self._policy.explain(view, endpoints), endpoints)
        response.model, response.revision = endpoints[0].model, view.revision
        if snapshot.stale_since is not None:
            response.stale_s = self._clock.now() - snapshot.stale_since
        return response.SerializeToString()


def _response(told: Explanation, endpoints: Sequence[Endpoint]) -> router_pb2.ExplainRouteResponse:
    by_id = {endpoint.id: endpoint for endpoint in endpoints}
    best_first = sorted(told.candidates, key=lambda c: (c.filtered_by is not None, -c.total))
    return router_pb2.ExplainRouteResponse(
        policy=told.policy,
        candidates=[_candidate(one, by_id[one.endpoint_id], told) for one in best_first],
        best_worker_id=told.best or "",
    )


def _candidate(
    candidate: Candidate, endpoint: Endpoint, told: Explanation
) -> router_pb2.RouteCandidate:
    return router_pb2.RouteCandidate(
        worker_id=endpoint.id,
        address=endpoint.address,
        revision=endpoint.revision,
        state=candidate.state.name.lower(),
        filtered_by=candidate.filtered_by or "",
        scores=[
            router_pb2.RouteScore(
                scorer=name,
                score=score,
                weight=told.weights[name],
                detail=candidate.details.get(name, ""),
            )
            for name, score in candidate.scores.items()
        ],
        total=candidate.total,
    )
