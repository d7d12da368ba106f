"""Small translations at the router's edges: request → view, pool → list of models, instance → endpoint."""

from __future__ import annotations

import pytest

from common.discovery.api import InstanceState
from common.errors import InvalidRequest, Reason
from common.limits import Limits
from common.rpc.caller import caller_of
from common.rpc.metadata import CALLER_KEY
from lepton.v1 import inference_pb2, types_pb2
from router.core.call import Cost, RoutingView
from router.core.endpoint import EndpointState
from router.core.pool import PoolSnapshot
from router.transport.cost_of import cost_of
from router.transport.models_of import models_of
from router.transport.view_of import view_of_generate, view_of_model
from router.upstream.membership import endpoint_of
from tests.support.endpoints import make_endpoint
from tests.support.fake_worker import FakeWorker


@pytest.mark.parametrize(
    ("priority", "expected"),
    [
        (types_pb2.PRIORITY_UNSPECIFIED, 0),
        (types_pb2.PRIORITY_LOW, -1),
        (types_pb2.PRIORITY_NORMAL, 0),
        (types_pb2.PRIORITY_HIGH, 1),
    ],
)
def test_view_holds_what_policies_may_see(priority: types_pb2.Priority, expected: int) -> None:
    request = inference_pb2.GenerateRequest(
        model="m", revision="abcdef12", session_key="s", priority=priority, text="secret"
    )
    request.service_level.queue_timeout_ms = 1500
    cost = Cost(tokens=7, rows=2, num_bytes=30)
    view = view_of_generate(request, caller="me", cost=cost)
    assert view == RoutingView(
        model="m",
        revision="abcdef12",
        session_key="s",
        priority=expected,
        task="generate",
        caller="me",
        cost=cost,
        queue_s_max=1.5,
    )
    assert "secret" not in repr(view)


def test_view_of_a_model_asks_for_no_task_and_no_row() -> None:
    assert view_of_model("m") == RoutingView(model="m", task="", cost=Cost(rows=0))


def test_models_are_listed_by_name_and_revision_with_what_all_their_workers_can() -> None:
    endpoints = (
        make_endpoint("w1", context_length=100, tasks=("embed", "generate"), tool_format="hermes"),
        make_endpoint("w2", context_length=50),
        make_endpoint("w3", revision="00000000", tool_format="mistral"),
        make_endpoint("w4", state=EndpointState.LOST),
    )
    lost = make_endpoint("w5", model="gone", state=EndpointState.LOST)
    snapshot = PoolSnapshot(models={"tiny": endpoints, "gone": (lost,)})
    listed = models_of(snapshot).models
    assert [(m.model, m.revision[:4], m.num_workers) for m in listed] == [
        ("tiny", "0000", 1),
        ("tiny", "aaaa", 2),
    ]
    assert (listed[1].context_length, list(listed[1].tasks)) == (50, ["generate"])
    assert [m.tool_format for m in listed] == ["mistral", ""]


def test_empty_cluster_lists_nothing() -> None:
    assert not models_of(PoolSnapshot()).models


def test_registered_worker_keeps_every_field_on_its_way_into_the_pool() -> None:
    instance = FakeWorker("w1").instance(
        address="10.0.0.1:5", state=InstanceState.DRAINING, tool_format="hermes"
    )
    endpoint = endpoint_of(instance)
    shared = (
        "id", "incarnation", "address", "model", "revision", "tasks", "context_length", "vocab_size", "fingerprint",
        "tool_format",
    )  # fmt: skip
    for name in shared:
        assert getattr(endpoint, name) == getattr(instance, name)
    assert endpoint.state is EndpointState.DRAINING
    assert endpoint.load.rows_max == instance.rows_max


class Metadata:
    def __init__(self, *pairs: tuple[str, str | bytes]) -> None:
        self._pairs = pairs

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._pairs


def test_caller_is_the_first_one_named_or_nobody() -> None:
    assert caller_of(Metadata()) == ""
    assert caller_of(Metadata(("other", "x"), (CALLER_KEY, "me"), (CALLER_KEY, "you"))) == "me"


@pytest.mark.parametrize("value", ["a b", "\x00", "a\n", "\x7f", "ü", "x" * 129, b"bytes"])
def test_caller_that_is_no_name_is_refused(value: str | bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        caller_of(Metadata((CALLER_KEY, value)))
    assert caught.value.reason is Reason.FIELD_MALFORMED


def test_cost_is_guessed_from_bytes_ids_answers_and_their_length() -> None:
    limits = Limits(max_tokens_default=100)
    request = inference_pb2.GenerateRequest(text="x" * 400)
    assert cost_of(request, 404, limits) == Cost(tokens=101 + 100, rows=1, num_bytes=404)
    request.stop.max_tokens = 5
    request.sampling.n = 3
    assert cost_of(request, 404, limits) == Cost(tokens=101 + 15, rows=3, num_bytes=404)
    request = inference_pb2.GenerateRequest(token_ids=types_pb2.TokenIds(ids=[1] * 50))
    request.stop.max_tokens = 1_000_000
    assert cost_of(request, 60, limits).tokens == 50 + 1024
