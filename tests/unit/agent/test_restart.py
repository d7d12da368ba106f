"""When a process is started again, and when it is left."""

from __future__ import annotations

import pytest

from agent.exits import Exit
from agent.restart import GiveUp, Restart, RestartPolicy
from agent.settings import AgentSettings
from tests.support.manual_clock import ManualClock

SETTINGS = AgentSettings(restart_s_first=0.5, restart_s_max=4.0, crashes_max=4, crash_window_s=30.0)
CRASH = Exit(code=1)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_a_crash_is_followed_by_a_restart_that_waits_longer_each_time(clock: ManualClock) -> None:
    policy = RestartPolicy(SETTINGS, clock)
    delays = []
    for _ in range(8):
        decision = policy.after(CRASH, lived_s=1.0)
        assert isinstance(decision, Restart)
        delays.append(decision.delay_s)
        clock.advance(20)  # too seldom to be given up
    assert delays == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0]


def test_a_long_life_makes_the_next_wait_short_again(clock: ManualClock) -> None:
    policy = RestartPolicy(SETTINGS, clock)
    for _ in range(3):
        policy.after(CRASH, lived_s=1.0)
        clock.advance(20)
    assert policy.after(CRASH, lived_s=30.0) == Restart(delay_s=0.5)


def test_too_many_crashes_in_a_short_time_are_given_up_with_the_reason(clock: ManualClock) -> None:
    policy = RestartPolicy(SETTINGS, clock)
    for _ in range(3):
        assert isinstance(policy.after(CRASH, lived_s=0.1), Restart)
        clock.advance(2)
    decision = policy.after(Exit(code=-11), lived_s=0.1)
    assert decision == GiveUp(
        why="ended 4 times in 6 s, the last time: killed by SIGSEGV", refused=False
    )


def test_crashes_outside_the_window_do_not_count(clock: ManualClock) -> None:
    policy = RestartPolicy(SETTINGS, clock)
    for _ in range(20):
        assert isinstance(policy.after(CRASH, lived_s=0.1), Restart)
        clock.advance(10.1)


def test_a_refusal_is_never_tried_again(clock: ManualClock) -> None:
    policy = RestartPolicy(SETTINGS, clock)
    refused = Exit(code=2, last_lines=("x", "error: no such file (MODEL_FILE_MISSING)"))
    assert policy.after(refused, lived_s=0.1) == GiveUp(
        why="no such file (MODEL_FILE_MISSING)", refused=True
    )


def test_endless_crashes_do_not_overflow(clock: ManualClock) -> None:
    policy = RestartPolicy(SETTINGS.model_copy(update={"crash_window_s": 0.001}), clock)
    for _ in range(5000):
        clock.advance(1)
        assert isinstance(policy.after(CRASH, lived_s=0.0), Restart)


@pytest.mark.parametrize(
    ("ended", "why"),
    [
        (Exit(code=1), "ended with code 1"),
        (Exit(code=-9), "killed by SIGKILL"),
        (Exit(code=-200), "killed by signal 200"),
        (
            Exit(code=1, last_lines=("  File x", "ValueError: broken", "")),
            "ended with code 1: ValueError: broken",
        ),
        (Exit(code=1, last_lines=('{"event": "x"}',)), "ended with code 1"),
        (Exit(code=2, last_lines=("error: port 1 (PORT_IN_USE)",)), "port 1 (PORT_IN_USE)"),
    ],
)
def test_an_end_is_told_in_words(ended: Exit, why: str) -> None:
    assert ended.why() == why
