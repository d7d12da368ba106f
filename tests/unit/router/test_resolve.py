"""Which endpoints a request means."""

from __future__ import annotations

import pytest

from common.errors import InvalidRequest, LeptonError, NotFound, Reason
from router.core.call import RoutingView
from router.core.endpoint import Endpoint, EndpointState
from router.core.pool import PoolSnapshot
from router.core.resolve import resolve
from tests.support.endpoints import make_endpoint

A1 = make_endpoint("a1", model="a", revision="1111111100")
A2 = make_endpoint("a2", model="a", revision="1111111122")
B1 = make_endpoint("b1", model="b", revision="2222222200")


def snapshot_of(*endpoints: Endpoint) -> PoolSnapshot:
    models: dict[str, tuple[Endpoint, ...]] = {}
    for endpoint in endpoints:
        models[endpoint.model] = (*models.get(endpoint.model, ()), endpoint)
    return PoolSnapshot(models=models)


@pytest.mark.parametrize(
    ("model", "revision", "expected"),
    [
        ("a", "", ("a1", "a2")),
        ("b", "", ("b1",)),
        ("a", "1111111100", ("a1",)),
        ("a", "1111111122", ("a2",)),
        ("b", "22222222", ("b1",)),
    ],
)
def test_model_and_revision_choose(model: str, revision: str, expected: tuple[str, ...]) -> None:
    view = RoutingView(model=model, revision=revision)
    assert tuple(e.id for e in resolve(view, snapshot_of(A1, A2, B1))) == expected


def test_empty_model_means_the_only_one() -> None:
    assert resolve(RoutingView(model=""), snapshot_of(B1)) == (B1,)


def test_empty_model_ignores_one_that_only_drains() -> None:
    leaving = make_endpoint("c1", model="c", state=EndpointState.DRAINING)
    assert resolve(RoutingView(model=""), snapshot_of(leaving, B1)) == (B1,)
    assert resolve(RoutingView(model=""), snapshot_of(leaving)) == (leaving,)


@pytest.mark.parametrize(
    ("model", "revision", "error", "reason", "field", "tells"),
    [
        ("x", "", NotFound, Reason.MODEL_NOT_FOUND, "model", "'a', 'b'"),
        ("", "", InvalidRequest, Reason.MODEL_AMBIGUOUS, "model", "'a', 'b'"),
        ("a", "33333333", NotFound, Reason.REVISION_NOT_FOUND, "revision", "'1111111100'"),
        ("a", "11111111", InvalidRequest, Reason.FIELD_MALFORMED, "revision", "more digits"),
    ],
)
def test_errors_say_what_there_is(
    model: str, revision: str, error: type[LeptonError], reason: Reason, field: str, tells: str
) -> None:
    with pytest.raises(error) as caught:
        resolve(RoutingView(model=model, revision=revision), snapshot_of(A1, A2, B1))
    assert (caught.value.reason, caught.value.field) == (reason, field)
    assert tells in caught.value.message


@pytest.mark.parametrize("model", ["", "x"])
def test_empty_cluster(model: str) -> None:
    with pytest.raises(NotFound, match="at the moment"):
        resolve(RoutingView(model=model), snapshot_of())


def test_long_lists_are_cut() -> None:
    many = [make_endpoint(f"w{i}", model=f"model-{i:03}") for i in range(50)]
    with pytest.raises(NotFound, match="and 30 more"):
        resolve(RoutingView(model="x"), snapshot_of(*many))
