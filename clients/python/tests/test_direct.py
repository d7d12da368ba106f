"""Pick, stream, and go on at the next worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.python.tests.world import GONE, World, answer, part, refusal
from lepton.v1 import inference_pb2
from lepton_client.direct import DirectCall
from lepton_client.errors import LeptonError
from lepton_client.steps import Answered, Failed, Open, Reply, Unary


def cluster(*parts: list[Reply]) -> Callable[[Open | Unary], Sequence[Reply]]:
    """Picks w1, w2, …; the n-th stream gets the n-th part."""
    left, picks = list(parts), iter(range(1, 100))

    def serve(step: Open | Unary) -> Sequence[Reply]:
        if isinstance(step, Open):
            return left.pop(0)
        number = next(picks)
        return [
            Answered(
                inference_pb2.PickResponse(
                    worker_id=f"w{number}",
                    address=f"w{number}:1",
                    model="tiny",
                    revision="abc",
                    fingerprint="f",
                    ticket=f"t{number}",
                )
            )
        ]

    return serve


def run(
    world: World, request: inference_pb2.GenerateRequest | None = None, *, losses_max: int = 2
) -> None:
    asked = request or inference_pb2.GenerateRequest(text="x")
    call = DirectCall(world.asking(), asked, losses_max=losses_max)
    world.play(call.run())


def streams(world: World) -> list[inference_pb2.GenerateRequest]:
    return [step.request for step in world.asked if isinstance(step, Open)]


def picks(world: World) -> list[inference_pb2.PickRequest]:
    return [step.request for step in world.asked if isinstance(step, Unary)]  # type: ignore[misc]


def rest(events: list[inference_pb2.Event], start: int) -> list[inference_pb2.Event]:
    """How the next worker goes on: Migrated at the next `seq`, then what is missing."""
    moved = inference_pb2.Event(seq=start, migrated=inference_pb2.Migrated())
    shifted = []
    for event in events[start:]:
        copy = inference_pb2.Event()
        copy.CopyFrom(event)
        copy.seq += 1
        shifted.append(copy)
    return [moved, *shifted]


def test_the_worker_is_asked_for_what_was_picked() -> None:
    world = World(cluster(part(answer(2))))
    run(world)
    assert world.seqs == [0, 1, 2, 3]
    (asked,) = streams(world)
    assert (asked.model, asked.revision, asked.output.token_ids) == ("tiny", "abc", True)
    assert asked.request_id.startswith("direct-")
    assert ("lepton-ticket", "t1") in world.asked[1].metadata
    assert world.routes == ["r1:1", "w1:1"]


def test_a_lost_worker_is_followed_by_a_continuation_elsewhere() -> None:
    events = answer(5)
    world = World(cluster(part(events[:3], GONE), part(rest(events, 3))))
    run(world)
    assert world.error is None
    assert world.seqs == list(range(8))
    again = picks(world)[1]
    assert list(again.failed_tickets) == ["t1"]
    assert (again.origin.worker_id, again.origin.revision) == ("w1", "abc")
    continuation = streams(world)[1].continuation
    assert list(continuation.choices[0].token_ids) == [100, 101]
    assert (continuation.next_seq, continuation.attempt, continuation.seed) == (3, 1, 7)
    assert continuation.from_worker_id == "w1"


def test_a_worker_that_never_answers_leaves_no_continuation() -> None:
    world = World(cluster(part([], GONE), part(answer(1))))
    run(world)
    assert world.error is None
    assert not streams(world)[1].HasField("continuation")
    assert not picks(world)[1].HasField("origin")


def test_ends_of_choices_go_along() -> None:
    events = answer(1, choices=2)
    world = World(cluster(part(events[:2], GONE), part(rest(events, 2))))
    run(world, inference_pb2.GenerateRequest(text="x", sampling={"n": 2}))
    first, second = streams(world)[1].continuation.choices
    assert first.HasField("end")
    assert not second.HasField("end")
    assert not second.token_ids


def test_three_dead_workers_end_the_call() -> None:
    world = World(cluster(*[part([], GONE)] * 9))
    run(world)
    assert len(streams(world)) == 3
    assert world.error is not None
    assert world.error.reason == "WORKER_LOST"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("PERMISSION_DENIED", "TICKET_EXPIRED"),
        ("NOT_FOUND", "REVISION_NOT_FOUND"),
        ("RESOURCE_EXHAUSTED", "QUEUE_FULL"),
        ("UNAVAILABLE", "DRAINING"),
    ],
)
def test_a_first_worker_that_declines_is_followed_by_two_more(code: str, reason: str) -> None:
    error = refusal(code, reason)
    world = World(cluster(part([], error), part([], error), part(answer(1))))
    run(world)
    assert world.error is None
    assert list(picks(world)[2].failed_tickets) == ["t1", "t2"]
    world = World(cluster(*[part([], error)] * 9))
    run(world)
    assert world.error is error
    assert len(streams(world)) == 3


def test_refusals_are_not_counted_as_losses() -> None:
    events, full = answer(5), refusal("RESOURCE_EXHAUSTED", "QUEUE_FULL")
    parts = [part([], full), part(events[:2], GONE), part([], full), part(rest(events, 2))]
    world = World(cluster(*parts))
    run(world)
    assert world.error is None
    assert streams(world)[3].continuation.attempt == 1
    told = [(one.address, one.after_seq, one.error.reason) for one in world.told]
    assert told == [
        ("w2:1", None, "QUEUE_FULL"),
        ("w3:1", 1, "WORKER_LOST"),
        ("w4:1", 1, "QUEUE_FULL"),
    ]


@pytest.mark.parametrize("error", [GONE, refusal("UNAVAILABLE", "DRAINING")])
def test_a_client_that_shall_not_move_does_not(error: LeptonError) -> None:
    world = World(cluster(part(answer(5)[:2], error)))
    run(world, losses_max=0)
    assert world.error is not None
    assert len(streams(world)) == 1


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("INVALID_ARGUMENT", "PROMPT_TOO_LONG"),
        ("INTERNAL", "MODEL_OUTPUT_INVALID"),
        ("PERMISSION_DENIED", "TICKET_INVALID"),
    ],
)
def test_what_another_worker_would_say_too_is_final(code: str, reason: str) -> None:
    error = refusal(code, reason)
    world = World(cluster(part([], error)))
    run(world)
    assert world.error is error
    assert len(world.asked) == 2


def test_who_declines_to_go_on_is_not_what_happened() -> None:
    busy = refusal("RESOURCE_EXHAUSTED", "QUEUE_FULL")
    world = World(cluster(part(answer(5)[:2], GONE), *[part([], busy)] * 9))
    run(world)
    assert len(streams(world)) == 4
    assert world.error is not None
    assert world.error.reason == "WORKER_LOST"


def test_workers_that_leave_hand_over_without_being_counted_as_lost() -> None:
    events, leaving = answer(3), refusal("UNAVAILABLE", "DRAINING")
    parts = [part(events[:2], leaving)]
    for moves in range(5):
        moved = inference_pb2.Event(seq=2 + moves, migrated=inference_pb2.Migrated())
        parts.append(part([moved], leaving))
    for event in events[2:]:
        event.seq += 5
    world = World(cluster(*parts, part(events[2:])))
    run(world)
    assert world.error is None
    assert len(streams(world)) == 7


def test_a_refused_pick_ends_the_call() -> None:
    error = refusal("UNAVAILABLE", "REVISION_GONE")

    def serve(step: Open | Unary) -> Sequence[Reply]:
        return [Failed(error)]

    world = World(serve)
    run(world)
    assert world.error is error
    assert len(world.asked) == 3  # Unavailable: asked again, three in all


def test_ids_that_were_not_asked_for_stay_hidden_and_still_move() -> None:
    events = answer(4)
    world = World(cluster(part(events[:3], GONE), part(rest(events, 3))))
    run(world, inference_pb2.GenerateRequest(text="x", output={"token_ids": False}))
    assert not any(event.delta.token_ids for event in world.given)
    assert list(streams(world)[1].continuation.choices[0].token_ids) == [100, 101]


@given(num_tokens=st.integers(1, 10), cuts=st.lists(st.integers(0, 12), max_size=4))
def test_whatever_breaks_tokens_come_once_and_in_order(num_tokens: int, cuts: list[int]) -> None:
    left = list(cuts)
    made: list[int] = []

    def serve(step: Open | Unary) -> Sequence[Reply]:
        if isinstance(step, Unary):
            made.append(1)
            name = f"w{len(made)}"
            return [Answered(inference_pb2.PickResponse(worker_id=name, address=f"{name}:1"))]
        continuation = step.request.continuation
        events = answer(num_tokens)
        if step.request.HasField("continuation"):
            known = len(continuation.choices[0].token_ids)
            moved = inference_pb2.Event(migrated=inference_pb2.Migrated())
            events = [moved, *events[1 + known :]]
            for offset, event in enumerate(events):
                event.seq = continuation.next_seq + offset
        return part(events[: left.pop(0)], GONE) if left else part(events)

    world = World(serve)
    run(world)
    ids = [i for event in world.given for i in event.delta.token_ids]
    assert world.seqs == list(range(len(world.seqs)))
    assert ids == list(range(100, 100 + len(ids)))
    if world.error is None:
        assert len(ids) == num_tokens
    else:
        assert world.error.reason == "WORKER_LOST"
