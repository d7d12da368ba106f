"""Calls that a living worker has forgotten: who is to blame, and who is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from common.errors import Internal, LeptonError, Reason, Unavailable
from router.core.endpoint import EndpointState, Load
from router.core.entry import Tracked
from router.core.pool import EndpointPool
from tests.support.endpoints import make_endpoint
from tests.support.manual_clock import ManualClock

W1 = make_endpoint("w1", state=EndpointState.CONNECTING)
SILENCE_S = 5.0


class Bench:
    """One worker with one call on it."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.pool = EndpointPool(
            self.clock,
            **{
                "hold_down_s_max": 60,
                "abandon_s": 2,
                "remember_s": 300,
                "stream_silence_s_max": SILENCE_S,
            }
            | settings,
        )
        self.pool.apply([W1], stale=False)
        self.call: Tracked
        self.num_messages: int | None = 1

    def lives(self, seconds: float, *, slept_s: float = 0.0, **load: Any) -> list[Tracked]:
        """It reports and is looked at, a few times a second; returns what is to be given up, of all that time."""
        found: list[Tracked] = []
        for _ in range(round(seconds / 0.25)):
            self.clock.advance(0.25)
            self.pool.report(W1.id, W1.incarnation, Load(**load), draining=False)
            found += self.pool.sweep(slept_s=slept_s)
        return found


@pytest.fixture
def bench() -> Iterator[Bench]:
    yield from with_call(Bench())


def with_call(bench: Bench) -> Iterator[Bench]:
    with bench.pool.track(W1) as bench.call:
        bench.call.progress = lambda: bench.num_messages
        yield bench


def test_silence_of_an_idle_worker_is_its_fault(bench: Bench) -> None:
    bench.lives(1, running=1)
    assert bench.lives(SILENCE_S) == []
    assert set(bench.lives(0.5)) == {bench.call}
    errors: list[LeptonError] = []
    bench.call.on_abandon = errors.append
    bench.call.abandon()
    assert isinstance(errors[0], Internal)
    assert errors[0].reason is Reason.STREAM_FAULT
    assert not bench.call.is_abandoned, "the worker lives, and nobody killed it"


def test_every_message_counts(bench: Bench) -> None:
    for bench.num_messages in range(20):
        assert bench.lives(SILENCE_S - 1) == []


def test_all_of_the_silence_is_idle(bench: Bench) -> None:
    """It has been silent for long, but so far it had something to do."""
    assert bench.lives(60, running=1) == []
    assert bench.lives(SILENCE_S) == []
    assert bench.lives(0.25, waiting=1) == []
    assert bench.lives(SILENCE_S) == []
    assert bench.lives(0.5) != []


def test_what_the_client_takes_slowly_is_not_blamed_on_the_worker(bench: Bench) -> None:
    bench.num_messages = None
    assert bench.lives(60) == []
    bench.num_messages = 1
    assert bench.lives(SILENCE_S) == []
    assert bench.lives(0.5) != []


def test_a_first_message_may_take_longer(bench: Bench) -> None:
    """Prompts are tokenized, and grammars compiled, before the engine knows of a call."""
    bench.num_messages = 0
    assert bench.lives(3 * SILENCE_S) == []
    assert bench.lives(0.5) != []


def test_time_that_the_router_slept_is_nobodys_fault(bench: Bench) -> None:
    assert bench.lives(60, slept_s=0.25) == []


def test_calls_that_are_no_streams_are_left_alone(bench: Bench) -> None:
    bench.call.progress = None
    assert bench.lives(60) == []


def test_nothing_is_given_up_when_that_is_switched_off() -> None:
    for bench in with_call(Bench(stream_silence_s_max=0.0)):
        assert bench.lives(60) == []


def test_worker_that_says_nothing_at_all_is_judged_by_that(bench: Bench) -> None:
    bench.lives(4)
    bench.clock.advance(3.5)
    assert bench.pool.sweep() == (bench.call,)
    assert not bench.call.is_silent
    errors: list[LeptonError] = []
    bench.call.on_abandon = errors.append
    bench.call.abandon()
    assert isinstance(errors[0], Unavailable)
    assert bench.call.is_abandoned


def test_restart_of_the_load_stream_begins_anew(bench: Bench) -> None:
    bench.lives(4)
    bench.pool.lost(W1.id, W1.incarnation)
    assert bench.lives(SILENCE_S) == []
    assert bench.lives(0.5) != []
