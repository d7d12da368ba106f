"""What a router remembers of idempotency keys."""

from __future__ import annotations

import pytest

from common.errors import InvalidRequest, Overloaded, Reason
from router.core.idempotency import IdempotencyTable
from router.core.route import Route
from tests.support.endpoints import make_endpoint
from tests.support.manual_clock import ManualClock

KEEP_S = 60.0


def table(*, keys_max: int = 10) -> tuple[IdempotencyTable, ManualClock]:
    clock = ManualClock()
    return IdempotencyTable(clock, keys_max=keys_max, keep_s=KEEP_S), clock


def route(endpoint_id: str = "") -> Route:
    found = Route(started_at=0.0)
    if endpoint_id:
        found.endpoint = make_endpoint(endpoint_id)
    return found


def test_a_second_call_learns_where_the_first_is_as_soon_as_it_is_somewhere() -> None:
    keys, _ = table()
    first = route()
    with keys.using(b"k", b"f", first) as holder:
        assert holder == ""
        with keys.using(b"k", b"f", route()) as early:
            assert early == ""
        first.endpoint = make_endpoint("w1")
        with keys.using(b"k", b"f", route()) as later:
            assert later == "w1"
        first.endpoint = make_endpoint("w2")  # it moved
        with keys.using(b"k", b"f", route()) as moved:
            assert moved == "w2"


def test_an_ended_call_is_remembered_for_a_while() -> None:
    keys, clock = table()
    with keys.using(b"k", b"f", route("w1")):
        clock.advance(10 * KEEP_S)
    clock.advance(KEEP_S - 1)
    with keys.using(b"k", b"f", route("w1")) as holder:
        assert holder == "w1"
    clock.advance(KEEP_S)
    with keys.using(b"k", b"other", route()) as forgotten:
        assert forgotten == ""


def test_another_request_is_refused_and_changes_nothing() -> None:
    keys, _ = table()
    with keys.using(b"k", b"f", route("w1")):
        with pytest.raises(InvalidRequest) as refused, keys.using(b"k", b"g", route()):
            pass
        assert refused.value.reason is Reason.IDEMPOTENCY_KEY_REUSED
        assert refused.value.field == "idempotency_key"
        with keys.using(b"k", b"f", route()) as holder:
            assert holder == "w1"


def test_a_call_that_failed_is_forgotten_unless_another_runs() -> None:
    keys, _ = table()
    with pytest.raises(Overloaded), keys.using(b"k", b"f", route("w1")):
        raise Overloaded("full")
    assert len(keys) == 0
    with keys.using(b"k", b"f", route("w2")):
        with pytest.raises(Overloaded), keys.using(b"k", b"f", route("w2")):
            raise Overloaded("full")
        with keys.using(b"k", b"f", route()) as holder:
            assert holder == "w2"


def test_a_client_that_goes_away_leaves_its_call_findable() -> None:
    keys, _ = table()
    with pytest.raises(GeneratorExit), keys.using(b"k", b"f", route("w1")):
        raise GeneratorExit
    with keys.using(b"k", b"f", route()) as holder:
        assert holder == "w1"


def test_room_is_bounded_and_the_oldest_goes_first() -> None:
    keys, _ = table(keys_max=3)
    for number in range(20):
        with keys.using(bytes([number]), b"f", route("w1")):
            assert len(keys) <= 3
    with keys.using(bytes([19]), b"f", route()) as newest:
        assert newest == "w1"
    with keys.using(bytes([0]), b"f", route()) as oldest:
        assert oldest == ""
