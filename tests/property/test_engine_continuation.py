"""What another worker began goes on here as it would have gone on there, whatever runs beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidRequest, Overloaded
from tests.support.engine import make_request
from tests.support.fake_runner import FakeRunner, fake_completion
from tests.support.manual_clock import ManualClock
from tests.support.stepped_engine import SteppedEngine, tokens_of
from worker.engine.config import EngineConfig
from worker.engine.events import EndEvent, Event, ReplayedEvent, ScheduledEvent
from worker.engine.request import EngineRequest
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import StopRule

CONFIG = EngineConfig(chunk_tokens_min=4, chunk_tokens_first=8, chunk_tokens_max=24)
SEED = 9


def answers(runner: FakeRunner, *requests: EngineRequest) -> list[list[Event]]:
    """All events of each request; they come at once."""
    engine = SteppedEngine(runner, CONFIG, ManualClock())
    streams = [engine.submit(request) for request in requests]
    while not engine.is_idle or not all(stream.has_ended for stream in streams):
        engine.step()
    assert not runner.violations
    return [engine.read(stream) for stream in streams]


def ends_of(events: list[Event]) -> dict[int, tuple[object, int | None]]:
    return {e.choice: (e.reason, e.stop_token_id) for e in events if isinstance(e, EndEvent)}


@given(
    num_prompt_tokens=st.integers(1, 40) | st.sampled_from([31, 32, 33, 64, 65]),
    n=st.integers(1, 4),
    max_tokens=st.integers(2, 70),
    min_tokens=st.integers(0, 2),
    stop_ids=st.sampled_from([frozenset(), frozenset(range(0, 256, 17))]),
    cuts=st.lists(st.integers(0, 69), min_size=4, max_size=4),
    num_slots=st.integers(1, 5),
    num_blocks=st.sampled_from([0, 2, 40]),
    keeps_decoded=st.booleans(),
    salt=st.sampled_from([b"", None]),
    wrong=st.sets(st.integers(0, 69)),
    num_neighbours=st.integers(0, 1),
)
def test_known_tokens_are_computed_and_not_told(
    num_prompt_tokens: int,
    n: int,
    max_tokens: int,
    min_tokens: int,
    stop_ids: frozenset[int],
    cuts: list[int],
    num_slots: int,
    num_blocks: int,
    keeps_decoded: bool,
    salt: bytes | None,
    wrong: set[int],
    num_neighbours: int,
) -> None:
    """Each choice cut where it may be; ids at the positions `wrong` are others than this worker would have drawn."""
    request = replace(
        make_request(
            tuple(range(num_prompt_tokens)),
            n=n,
            sampling=SamplingParams(seed=SEED, logprobs=1),
            stop=StopRule(max_tokens=max_tokens, min_tokens=min_tokens, stop_ids=stop_ids),
        ),
        salt=salt,
    )

    def runner() -> FakeRunner:
        return FakeRunner(
            num_slots=num_slots, capacity=140, num_blocks=num_blocks, keeps_decoded=keeps_decoded
        )

    (uninterrupted,) = answers(runner(), request)
    tokens = tokens_of(uninterrupted, n)
    known_ids, num_wrong = {}, {}
    for choice in range(n):
        ids = [token_id for token_id, _ in tokens[choice]][: cuts[choice]]
        if len(ids) == len(tokens[choice]):
            continue  # it has ended
        swapped = {at for at in wrong if at < len(ids) and (ids[at] ^ 1) not in stop_ids}
        known_ids[choice] = tuple(ids[at] ^ (at in swapped) for at in range(len(ids)))
        num_wrong[choice] = len(swapped)
    if not known_ids:
        return

    neighbours = [make_request((5, 6, 7), max_tokens=40)] * num_neighbours
    goes_on = replace(request, known_ids=known_ids)
    continued, *_ = answers(runner(), goes_on, *neighbours)

    assert {event.choice for event in continued} == set(known_ids)
    for choice, known in known_ids.items():
        assert tokens_of(continued, n)[choice] == tokens[choice][len(known) :]
        assert ends_of(continued)[choice] == ends_of(uninterrupted)[choice]
        replayed = [
            event.num_mismatches
            for event in continued
            if isinstance(event, ReplayedEvent) and event.choice == choice
        ]
        redraws = bool(known) and not keeps_decoded
        assert replayed == ([num_wrong[choice]] if redraws else [])


def test_what_was_begun_goes_before_all_that_waits_and_is_never_refused() -> None:
    config = replace(CONFIG, waiting_sequences_max=1)
    engine = SteppedEngine(FakeRunner(num_slots=1), config, ManualClock())
    streams = {"running": engine.submit(make_request(max_tokens=3))}
    engine.step()
    streams["high"] = engine.submit(replace(make_request(), priority=1))
    known = tuple(fake_completion((1, 2, 3), num_tokens=2))
    with pytest.raises(Overloaded):
        engine.submit(make_request())
    for name in ("first", "second", "third"):
        streams[name] = engine.submit(replace(make_request(), priority=-1, known_ids={0: known}))
    started_at = {}
    while not all(stream.has_ended for stream in streams.values()):
        engine.step()
        for name, stream in streams.items():
            for event in engine.read(stream):
                if isinstance(event, ScheduledEvent):
                    started_at[name] = len(started_at)
    assert list(started_at) == ["running", "first", "second", "third", "high"]


@pytest.mark.parametrize("known_ids", [{}, {0: (1, 2, 3)}, {0: (), 1: (1, 2, 3, 4)}])
def test_what_leaves_nothing_to_draw_is_refused(known_ids: dict[int, tuple[int, ...]]) -> None:
    engine = SteppedEngine(FakeRunner(), CONFIG, ManualClock())
    with pytest.raises(InvalidRequest):
        engine.submit(replace(make_request(max_tokens=3, n=2), known_ids=known_ids))
