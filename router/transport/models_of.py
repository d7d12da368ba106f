"""The pool as a list of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lepton.v1 import inference_pb2, types_pb2
from router.core.alias import AliasTarget
from router.core.endpoint import Endpoint, EndpointState
from router.core.pool import PoolSnapshot

__all__ = ["models_of"]


def models_of(
    snapshot: PoolSnapshot, aliases: Mapping[str, Sequence[AliasTarget]] | None = None
) -> inference_pb2.ListModelsResponse:
    """One entry per model and revision that has a ready worker, and one per alias of such models (its revision is empty
    unless it can mean one only), sorted by name, then revision.
    """
    groups: dict[tuple[str, str], list[Endpoint]] = {}
    for model, endpoints in snapshot.models.items():
        for endpoint in endpoints:
            if endpoint.state is EndpointState.READY:
                groups.setdefault((model, endpoint.revision), []).append(endpoint)
    listed: dict[tuple[str, str], list[Endpoint]] = dict(groups)
    for name, targets in (aliases or {}).items():
        if group := _meant(targets, groups):
            revisions = {endpoint.revision for endpoint in group}
            listed[name, revisions.pop() if len(revisions) == 1 else ""] = group
    return inference_pb2.ListModelsResponse(
        models=[
            types_pb2.ModelInfo(
                model=model,
                revision=revision,
                # What every one of them can do.
                context_length=min(endpoint.context_length for endpoint in group),
                vocab_size=min(endpoint.vocab_size for endpoint in group),
                tasks=sorted(set.intersection(*(set(endpoint.tasks) for endpoint in group))),
                num_workers=len(group),
                tool_format=_format_of(group),
            )
            for (model, revision), group in sorted(listed.items())
        ]
    )


def _format_of(group: Sequence[Endpoint]) -> str:
    """Empty unless all of them agree: a call goes to any of them, its answer is read in one way."""
    formats = {endpoint.tool_format for endpoint in group}
    return formats.pop() if len(formats) == 1 else ""


def _meant(
    targets: Sequence[AliasTarget], groups: Mapping[tuple[str, str], Sequence[Endpoint]]
) -> list[Endpoint]:
    return [
        endpoint
        for (model, revision), group in groups.items()
        if any(model == t.model and revision.startswith(t.revision) for t in targets)
        for endpoint in group
    ]
