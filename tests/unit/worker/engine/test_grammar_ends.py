"""How a grammar ends a sequence: complete, or impossible to follow; what others do is not touched."""

from __future__ import annotations

import pytest

from common.errors import InvalidRequest, Reason
from tests.support.engine import make_sequence
from worker.engine.config import EngineConfig
from worker.engine.events import EndEvent, FailedEvent, TokenEvent
from worker.engine.ports import CacheLayout, Sampled
from worker.engine.scheduler import Scheduler
from worker.engine.sequence import FinishReason, StopRule
from worker.engine.stopping import Finish, finish


@pytest.mark.parametrize(
    ("generated", "is_complete", "expected"),
    [
        ([5], True, Finish(FinishReason.STOP)),
        ([5], False, None),
        ([5, 5, 5, 5], True, Finish(FinishReason.STOP)),
        ([5, 5, 5, 5], False, Finish(FinishReason.LENGTH)),
        ([9], True, Finish(FinishReason.STOP, 9)),
    ],
    ids=["complete", "not yet", "complete with the last token", "cut", "a stop id"],
)
def test_a_complete_grammar_stops(
    generated: list[int], is_complete: bool, expected: Finish | None
) -> None:
    sequence = make_sequence(stop=StopRule(max_tokens=4, stop_ids=frozenset({9})))
    sequence.generated_ids += generated
    assert finish(sequence, is_complete=is_complete) == expected


def test_a_row_that_fails_ends_with_its_own_error_and_its_neighbours_go_on() -> None:
    scheduler = Scheduler(EngineConfig(), CacheLayout(num_slots=3, capacity=64))
    complete, failing, going_on = (make_sequence(number) for number in range(3))
    for sequence in (complete, failing, going_on):
        scheduler.add(sequence)
    batch = scheduler.schedule(0.0)
    assert batch is not None
    error = InvalidRequest("too complex", reason=Reason.GRAMMAR_TOO_LARGE)
    events = scheduler.update(
        batch,
        [
            Sampled(sequence=complete, token_id=7, is_complete=True),
            Sampled(sequence=failing, token_id=None, error=error),
            Sampled(sequence=going_on, token_id=7),
        ],
        1.0,
    )
    told = {
        sequence.id: [e for s, e in events if s is sequence][1:]
        for sequence in (complete, failing, going_on)
    }
    token, end = told[complete.id]
    assert isinstance(token, TokenEvent)
    assert end == EndEvent(choice=0, reason=FinishReason.STOP, stop_token_id=None, at=1.0)
    assert told[failing.id] == [FailedEvent(choice=0, error=error, at=1.0)]
    (token,) = told[going_on.id]
    assert isinstance(token, TokenEvent)
    assert scheduler.num_running == 1
    scheduler.check_integrity()
