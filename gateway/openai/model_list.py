"""What the cluster serves, as the doors need it."""

from __future__ import annotations

from typing import Any, Final, final

from common.clock import Clock
from common.errors import NotFound, Reason
from gateway.ports import Asked, Upstream
from lepton.v1 import inference_pb2, types_pb2

__all__ = ["ModelList"]

_FRESH_S: Final = 1.0
"""So long an answer is used again: how a model writes its calls is asked with every chat."""


@final
class ModelList:
    """Asks anew each time, but for what every chat needs to know."""

    def __init__(self, upstream: Upstream, clock: Clock) -> None:
        self._upstream = upstream
        self._clock = clock
        self._models: list[types_pb2.ModelInfo] = []
        self._asked_at = -_FRESH_S

    async def all(self) -> list[types_pb2.ModelInfo]:
        """One per model and revision."""
        answer = await self._upstream.unary(
            "ListModels", inference_pb2.ListModelsRequest(), Asked()
        )
        self._models = list(inference_pb2.ListModelsResponse.FromString(answer).models)
        self._asked_at = self._clock.now()
        return self._models

    async def tool_format(self, name: str) -> str:
        """How the model writes calls; "" for one that writes none, or is not there: the cluster says that better."""
        is_fresh = self._clock.now() - self._asked_at < _FRESH_S
        found = _named(name, self._models) if is_fresh else None
        if found is None:
            found = _named(name, await self.all())
        return found.tool_format if found else ""

    async def objects(self) -> list[dict[str, Any]]:
        """`data` of `/v1/models`: one per name."""
        found: dict[str, dict[str, Any]] = {}
        for model in await self.all():
            revision = {
                "revision": model.revision,
                "workers": model.num_workers,
                "tasks": list(model.tasks),
                "tool_format": model.tool_format or None,
            }
            if model.model in found:
                found[model.model]["lepton"].append(revision)
                continue
            found[model.model] = {
                "id": model.model,
                "object": "model",
                "created": 0,
                "owned_by": "lepton",
                "max_model_len": model.context_length,
                "lepton": [revision],
            }
        return list(found.values())

    async def object(self, name: str) -> dict[str, Any]:
        """One of them. Raises `NotFound(MODEL_NOT_FOUND)`."""
        objects = await self.objects()
        for one in objects:
            if one["id"] == name:
                return one
        served = ", ".join(one["id"] for one in objects) or "none"
        raise NotFound(
            f"no model {name[:128]!r} here; served: {served}",
            reason=Reason.MODEL_NOT_FOUND,
            field="model",
        )


def _named(name: str, models: list[types_pb2.ModelInfo]) -> types_pb2.ModelInfo | None:
    """Without a name the only one is meant; of several, the cluster refuses to choose."""
    return next((model for model in models if name in ("", model.model)), None)
