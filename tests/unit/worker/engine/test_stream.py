"""A stream by itself: what is pushed is read once, a choice ends once, an abort is asked for once."""

from __future__ import annotations

from common.errors import Cancelled, Unavailable
from tests.support.engine import make_sequence
from worker.engine.events import EndEvent, Event, FailedEvent, TokenEvent
from worker.engine.sequence import FinishReason
from worker.engine.stream import EVENTS_AT_ONCE, TokenStream


def token(choice: int, token_id: int) -> Event:
    return TokenEvent(choice=choice, token_id=token_id, logprob=None, top=(), at=0.0)


def end(choice: int) -> Event:
    return EndEvent(choice=choice, reason=FinishReason.STOP, stop_token_id=None, at=0.0)


def make_stream(n: int) -> TokenStream:
    return TokenStream([make_sequence(10 + choice, choice=choice) for choice in range(n)])


async def test_next_returns_everything_since_the_last_time() -> None:
    stream = make_stream(1)
    stream.push([token(0, 1)])
    stream.push([token(0, 2)])
    assert await stream.next() == (token(0, 1), token(0, 2))
    stream.push([end(0)])
    assert await stream.next() == (end(0),)
    assert await stream.next() == ()


async def test_it_ends_with_its_last_choice_and_drops_what_comes_after() -> None:
    stream = make_stream(2)
    stream.push([end(1), token(1, 7), end(1), token(0, 1)])
    assert not stream.has_ended
    stream.push([end(0)])
    assert stream.has_ended
    stream.fail(lambda: Cancelled("late"), 0.0)
    assert await stream.next() == (end(1), token(0, 1), end(0))
    assert await stream.next() == ()


async def test_fail_ends_only_open_choices_each_with_its_own_error() -> None:
    stream = make_stream(3)
    stream.push([end(1)])
    stream.fail(lambda: Unavailable("gone"), 5.0)
    _, *failed = await stream.next()
    assert [(event.choice, event.at) for event in failed] == [(0, 5.0), (2, 5.0)]
    first, second = failed
    assert isinstance(first, FailedEvent)
    assert isinstance(second, FailedEvent)
    assert first.error is not second.error


def test_each_open_choice_can_be_aborted_once() -> None:
    stream = make_stream(3)
    stream.push([end(0)])
    assert [sequence.choice for sequence in stream.take_abortable(1)] == [1]
    assert stream.take_abortable(1) == []
    assert stream.take_abortable(0) == []
    assert [sequence.choice for sequence in stream.take_abortable(None)] == [2]
    assert stream.take_abortable(None) == []


async def test_a_reader_far_behind_gets_bounded_parts_and_never_half_a_step() -> None:
    stream = make_stream(2)
    num_steps = EVENTS_AT_ONCE
    for step in range(num_steps):
        stream.push([token(0, step), token(1, step), token(1, step)])
    stream.push([end(0), end(1)])
    parts = []
    while events := await stream.next():
        parts.append(events)
    assert sum(map(len, parts)) == 3 * num_steps + 2
    assert len(parts) == 3
    for part in parts:
        assert len(part) <= EVENTS_AT_ONCE + 2
        assert part[0].choice == 0  # as every step begins
        assert part[-1].choice == 1  # as every step ends
