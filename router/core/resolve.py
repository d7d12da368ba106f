"""Which endpoints a request can mean, by model and revision; errors say what there is instead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from common.errors import InvalidRequest, NotFound, Reason
from router.core.call import RoutingView
from router.core.candidates import by_revision
from router.core.endpoint import Endpoint, EndpointState
from router.core.pool import PoolSnapshot

__all__ = ["resolve"]

_NAMES_SHOWN_MAX: Final = 20


def resolve(
    view: RoutingView, snapshot: PoolSnapshot, aliases: Iterable[str] = ()
) -> Sequence[Endpoint]:
    """Every endpoint, in whatever state, of the model and revision that `view` means; at least one. `aliases` are names
    that could have been asked for as well.

    Raises `NotFound(MODEL_NOT_FOUND)` listing what is served, `InvalidRequest(MODEL_AMBIGUOUS)` for an empty name with
    several models, `NotFound(REVISION_NOT_FOUND)` listing the revisions, and `InvalidRequest(FIELD_MALFORMED)` for a
    prefix of several revisions.
    """
    model = view.model or _only_model(snapshot)
    endpoints = snapshot.models.get(model)
    if endpoints is None:
        names = {*snapshot.models, *aliases}
        served = _listed(names) if names else "nothing at the moment"
        raise NotFound(f"no model {model!r} in this cluster; served: {served}", field="model")
    if not view.revision:
        return endpoints
    return _of_revision(view.revision, model, endpoints)


def _only_model(snapshot: PoolSnapshot) -> str:
    names = [
        model
        for model, endpoints in snapshot.models.items()
        if any(endpoint.state is not EndpointState.DRAINING for endpoint in endpoints)
    ] or list(snapshot.models)
    if not names:
        raise NotFound("no model is served by this cluster at the moment", field="model")
    if len(names) > 1:
        raise InvalidRequest(
            f"the cluster serves several models; set model to one of {_listed(names)}",
            reason=Reason.MODEL_AMBIGUOUS,
            field="model",
        )
    return names[0]


def _of_revision(prefix: str, model: str, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
    groups = by_revision(endpoints)
    revisions = [revision for revision in groups if revision.startswith(prefix)]
    if not revisions:
        raise NotFound(
            f"no revision {prefix!r} of model {model!r}; served: {_listed(groups)}",
            reason=Reason.REVISION_NOT_FOUND,
            field="revision",
        )
    if len(revisions) > 1:
        raise InvalidRequest(
            f"revision {prefix!r} of model {model!r} means several: {_listed(revisions)}; give more digits",
            reason=Reason.FIELD_MALFORMED,
            field="revision",
        )
    return groups[revisions[0]]


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    shown = ", ".join(repr(name) for name in ordered[:_NAMES_SHOWN_MAX])
    more = len(ordered) - _NAMES_SHOWN_MAX
    return f"{shown} and {more} more" if more > 0 else shown
