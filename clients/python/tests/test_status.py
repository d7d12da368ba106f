"""From status to error, and what may be asked again."""

from __future__ import annotations

import random

import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

import lepton_client
from lepton_client.errors import LeptonError
from lepton_client.retry import RetryBudget, RetryPolicy, backoff_s, is_retryable
from lepton_client.routers import Routers
from lepton_client.status import error_of, is_lost_connection

DETAILS = "grpc-status-details-bin"


def details(reason: str, *, domain: str = "lepton", field: str = "", delay_s: float = 0) -> bytes:
    status = status_pb2.Status()
    info = error_details_pb2.ErrorInfo(reason=reason, domain=domain)
    if field:
        info.metadata["field"] = field
    parts: list[object] = [info]
    if delay_s:
        delay = Duration()
        delay.FromNanoseconds(int(delay_s * 1e9))
        parts.append(error_details_pb2.RetryInfo(retry_delay=delay))
    for detail in parts:
        packed = Any()
        packed.Pack(detail)  # type: ignore[arg-type]
        status.details.append(packed)
    return status.SerializeToString()


def test_an_error_says_all_that_the_status_does() -> None:
    error = error_of(
        "RESOURCE_EXHAUSTED",
        "full",
        (
            (DETAILS, details("QUEUE_FULL", field="model", delay_s=0.25)),
            ("lepton-request-id", "r-1"),
            ("lepton-trace-id", "t-1"),
        ),
    )
    assert isinstance(error, lepton_client.Overloaded)
    assert (error.code, error.reason, error.field) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL", "model")
    assert (error.retry_after, error.request_id, error.trace_id) == (0.25, "r-1", "t-1")
    assert str(error) == "full (QUEUE_FULL model)"


def test_a_reason_and_a_code_of_tomorrow_are_kept() -> None:
    error = error_of("DATA_LOSS", "?", ((DETAILS, details("REASON_OF_TOMORROW")),))
    assert isinstance(error, lepton_client.Internal)
    assert (error.code, error.reason) == ("DATA_LOSS", "REASON_OF_TOMORROW")


@pytest.mark.parametrize("raw", [b"\xff\xff", b"", "text", details("X", domain="other.example")])
def test_details_that_are_not_ours_say_nothing(raw: bytes | str) -> None:
    error = error_of("INVALID_ARGUMENT", "", ((DETAILS, raw),))
    assert (error.reason, error.message) == ("FIELD_MALFORMED", "INVALID_ARGUMENT")


@pytest.mark.parametrize("code", ["UNAVAILABLE", "CANCELLED"])
def test_a_connection_is_lost_when_nobody_says_why(code: str) -> None:
    assert is_lost_connection(error_of(code, "", ()))
    assert not is_lost_connection(error_of(code, "", ((DETAILS, details("DRAINING")),)))


def test_every_class_is_an_error_of_the_package() -> None:
    classes = [getattr(lepton_client, name) for name in lepton_client.__all__]
    errors = [c for c in classes if isinstance(c, type) and issubclass(c, Exception)]
    assert len(errors) == 11
    assert all(issubclass(c, LeptonError) for c in errors)


def test_unavailable_and_full_may_pass() -> None:
    assert is_retryable(error_of("UNAVAILABLE", "", ((DETAILS, details("NO_WORKER")),)))
    assert is_retryable(error_of("RESOURCE_EXHAUSTED", "", ((DETAILS, details("QUEUE_FULL")),)))
    assert not is_retryable(error_of("RESOURCE_EXHAUSTED", "too large", ()))
    assert not is_retryable(error_of("INTERNAL", "", ((DETAILS, details("ENGINE_FAILED")),)))


@given(st.integers(0, 40), st.integers(), st.floats(0, 100))
def test_waits_have_their_bounds(k: int, seed: int, asked_s: float) -> None:
    wait_s = backoff_s(k, random.Random(seed), at_least_s=asked_s)
    assert asked_s <= wait_s <= max(asked_s, min(2.0, 0.1 * 2**k))


def test_a_budget_is_saved_up_call_by_call() -> None:
    budget = RetryBudget(RetryPolicy(budget_max=1, budget_per_call=0.25))
    assert budget.take()
    assert not budget.take()
    for _ in range(4):
        budget.count_call()
    assert budget.take()
    assert not budget.take()


@pytest.mark.parametrize("addresses", [[], ["localhost"], ["a:b"], ["http://h:1"], ["h:123456"]])
def test_addresses_are_checked_at_once(addresses: list[str]) -> None:
    with pytest.raises(ValueError, match=r"router|HOST:PORT"):
        Routers(addresses)


def test_the_router_that_answered_comes_first() -> None:
    routers = Routers(["a:1", "[::1]:2", "a:1", "c:3"])
    routers.answered("[::1]:2")
    assert routers.in_order() == ("[::1]:2", "c:3", "a:1")
