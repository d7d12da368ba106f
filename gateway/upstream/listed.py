"""A cluster as far as `ListModels` tells of it."""

from __future__ import annotations

from typing import Final, final

from gateway.ports import Asked, ClusterPicture, Upstream
from lepton.v1 import inference_pb2

__all__ = ["ListedCluster"]

_ANSWER_S_MAX: Final = 3.0
"""Longest that somebody who looks waits for a router, seconds."""


@final
class ListedCluster:
    """The `ClusterView` of `lepton-gateway`: models, but no workers, which only routers know."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def look(self) -> ClusterPicture:
        """See `ClusterView.look`."""
        payload = await self._upstream.unary(
            "ListModels", inference_pb2.ListModelsRequest(), Asked(timeout_s=_ANSWER_S_MAX)
        )
        listed = inference_pb2.ListModelsResponse.FromString(payload)
        return ClusterPicture(models=tuple(listed.models), workers=None)
