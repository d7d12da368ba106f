"""Signs of life: silence, late steps, broken streams, and time that the router slept itself."""

from __future__ import annotations

from typing import Any

import pytest

from router.core.endpoint import EndpointState, Load
from router.core.freeze import Freeze
from router.core.pulse import Patience, Pulse

CONNECTING, READY = EndpointState.CONNECTING, EndpointState.READY
SUSPECT, LOST = EndpointState.SUSPECT, EndpointState.LOST


def busy(step: int = 7, **fields: Any) -> Load:
    """A report in the middle of a step that should end in 50 ms."""
    return Load(**{"step": step, "running": 1, "step_ends_in_ms": 50, "step_ms": 60.0} | fields)


@pytest.fixture
def pulse() -> Pulse:
    return Pulse(Patience(suspect_s=1, abandon_s=2))


def test_nothing_is_expected_of_a_worker_that_has_not_spoken(pulse: Pulse) -> None:
    assert pulse.state(1e9) is CONNECTING
    assert not pulse.is_hopeless(1e9)
    assert not pulse.is_quiet(1e9)


def test_silence_makes_suspect_and_then_lost(pulse: Pulse) -> None:
    pulse.heard(Load(), 100)
    assert pulse.state(100.9) is READY
    assert pulse.state(101) is SUSPECT
    assert not pulse.is_hopeless(101.9)
    assert pulse.state(102) is LOST
    assert pulse.is_hopeless(102)
    assert pulse.why(102) == "silent for 1 s"
    pulse.heard(Load(), 103)
    assert pulse.state(103) is READY
    assert pulse.why(103) == ""


def test_broken_stream_is_a_loss_at_once_and_hopeless_later(pulse: Pulse) -> None:
    pulse.heard(Load(), 100)
    pulse.broke(100.5)
    assert pulse.state(100.5) is LOST
    assert not pulse.is_hopeless(102.4)
    assert pulse.is_hopeless(102.5)
    assert "broke" in pulse.why(101)


def test_step_that_stands_still_past_its_end_makes_suspect_although_reports_come(
    pulse: Pulse,
) -> None:
    pulse.heard(busy(), 100)  # due at 100.05
    for at in (100.2, 100.6, 101.0):
        pulse.heard(busy(step_ends_in_ms=0), at)
        assert pulse.state(at) is READY
    pulse.heard(busy(step_ends_in_ms=0), 101.1)
    assert pulse.state(101.1) is SUSPECT
    assert pulse.why(101.1) == "step 7 does not end"
    pulse.heard(busy(step_ends_in_ms=0), 102.1)
    assert pulse.state(102.1) is LOST
    assert pulse.is_hopeless(102.1)
    pulse.heard(busy(step=8), 102.2)
    assert pulse.state(102.2) is READY


def test_work_without_any_step_is_a_step_that_does_not_end(pulse: Pulse) -> None:
    """The engine thread hangs between two steps: nothing has an expected end."""
    for tenth in range(12):
        pulse.heard(busy(running=0, waiting=3, step_ends_in_ms=None), 100 + tenth / 10)
    assert pulse.state(101.1) is SUSPECT


def test_idle_worker_may_stand_still(pulse: Pulse) -> None:
    pulse.heard(busy(), 100)
    for second in range(1, 100):
        pulse.heard(Load(step=7, step_ms=60), 100 + second)
        assert pulse.state(100 + second) is READY


def test_nothing_is_expected_before_the_first_step(pulse: Pulse) -> None:
    """A large model may take seconds for it, and nobody knows how many."""
    for second in range(10):
        pulse.heard(busy(step=0, step_ms=0, step_ends_in_ms=0), 100 + second)
        assert pulse.state(100 + second) is READY


def test_next_step_has_an_end_of_its_own(pulse: Pulse) -> None:
    pulse.heard(busy(step_ends_in_ms=0), 100)
    pulse.heard(busy(step_ends_in_ms=80), 100.5)  # the counter moves only at the end of a step
    pulse.heard(busy(step_ends_in_ms=0), 101.4)
    assert pulse.state(101.4) is READY
    assert pulse.state(101.6) is SUSPECT


def test_workers_with_long_steps_get_more_time(pulse: Pulse) -> None:
    pulse.heard(busy(step_ms=500, step_ends_in_ms=0), 100)
    for tenth in range(1, 100):
        at = 100 + tenth / 10
        pulse.heard(busy(step_ms=500, step_ends_in_ms=0), at)
        assert pulse.state(at) is (READY if tenth < 50 else SUSPECT)


def test_time_that_the_router_slept_is_excused(pulse: Pulse) -> None:
    pulse.heard(busy(), 100)
    pulse.excuse(30, 130)
    assert pulse.state(130) is READY
    assert pulse.state(131.2) is SUSPECT
    pulse.broke(131.2)
    pulse.excuse(10, 141.2)
    assert not pulse.is_hopeless(143.1)
    assert pulse.is_hopeless(143.2)


def test_excuse_reaches_no_further_than_now(pulse: Pulse) -> None:
    pulse.heard(Load(), 100)
    pulse.excuse(1000, 101)
    assert pulse.state(102) is SUSPECT


def test_while_frozen_nobody_is_lost_for_silence_but_for_a_broken_stream(pulse: Pulse) -> None:
    pulse.heard(Load(), 100)
    assert pulse.state(150, frozen=True) is SUSPECT
    pulse.broke(150)
    assert pulse.state(150, frozen=True) is LOST


def judged(freeze: Freeze, troubled: int, of: int, now: float) -> bool:
    return freeze.judge("m", num_troubled=troubled, num_all=of, now=now)


def test_freeze_is_for_more_than_half_and_at_least_two() -> None:
    freeze = Freeze(seconds_max=10)
    assert not judged(freeze, 1, 1, 0)
    assert not judged(freeze, 2, 4, 0)
    assert judged(freeze, 3, 4, 0)
    assert freeze.frozen == {"m"}
    assert not judged(freeze, 2, 4, 1)
    assert freeze.frozen == set()


def test_freeze_ends_and_does_not_begin_again_by_itself() -> None:
    freeze = Freeze(seconds_max=10)
    assert judged(freeze, 2, 2, 0)
    assert judged(freeze, 2, 2, 9)
    assert not judged(freeze, 2, 2, 10)
    assert not judged(freeze, 2, 2, 11)
    assert not judged(freeze, 0, 2, 12)
    assert judged(freeze, 2, 2, 13)
