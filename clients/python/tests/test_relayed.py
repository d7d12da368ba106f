"""Retries before the first event, resumption after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.python.tests.world import GONE, World, answer, part, refusal
from lepton.v1 import inference_pb2
from lepton_client.errors import LeptonError
from lepton_client.relayed import RelayedCall
from lepton_client.retry import ResumePolicy, RetryPolicy
from lepton_client.steps import Open, Reply, Unary

FULL = refusal("RESOURCE_EXHAUSTED", "QUEUE_FULL")


def scripted(*parts: list[Reply]) -> Callable[[Open | Unary], Sequence[Reply]]:
    """The n-th call gets the n-th part."""
    left = list(parts)
    return lambda _: left.pop(0)


def run(world: World, *, resume: bool = False, **fields: object) -> RelayedCall:
    resume_from = fields.pop("resume_from", None)
    request = inference_pb2.GenerateRequest(text="x", **fields)  # type: ignore[arg-type]
    if isinstance(resume_from, tuple):
        request.resume.resume_token, request.resume.after_seq = resume_from
    call = RelayedCall(world.asking(), request, resume=ResumePolicy() if resume else None)
    world.play(call.run())
    return call


def test_an_answer_comes_through_whole() -> None:
    world = World(scripted(part(answer(3))))
    run(world)
    assert world.seqs == [0, 1, 2, 3, 4]
    assert world.error is None
    assert world.pauses == []


def test_a_router_that_is_gone_is_passed_over_at_once_and_remembered() -> None:
    world = World(scripted(part([], GONE), part(answer(1)), part(answer(1))))
    run(world)
    run(world)
    assert world.routes == ["r1:1", "r2:1", "r2:1"]
    assert world.pauses == []


def test_each_router_is_asked_once_per_attempt_and_there_are_three() -> None:
    world = World(lambda _: part([], GONE))
    run(world)
    assert world.routes == ["r1:1", "r2:1"] * 3
    assert len(world.pauses) == 2
    assert world.error is not None
    assert world.error.reason == "UNREACHABLE"
    assert "r1:1, r2:1" in world.error.message


def test_a_full_queue_is_asked_again_not_before_it_said() -> None:
    full = refusal("RESOURCE_EXHAUSTED", "QUEUE_FULL", retry_after=1.5)
    world = World(scripted(part([], full), part(answer(1))))
    run(world)
    assert world.error is None
    assert world.pauses == [1.5]


@pytest.mark.parametrize(
    "error",
    [
        refusal("INVALID_ARGUMENT", "PROMPT_EMPTY"),
        refusal("INTERNAL", "ENGINE_FAILED"),
        refusal("RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED"),  # gRPC's own: the message is too large
        refusal("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
    ],
)
def test_what_cannot_pass_is_not_asked_again(error: Exception) -> None:
    world = World(lambda _: part([], error))  # type: ignore[arg-type]
    run(world)
    assert len(world.asked) == 1
    assert world.error is error


def test_no_wait_reaches_beyond_the_deadline() -> None:
    full = refusal("RESOURCE_EXHAUSTED", "QUEUE_FULL", retry_after=60)
    world = World(lambda _: part([], full), timeout_s=10)
    run(world)
    assert world.pauses == []
    assert world.error is full


def test_calls_get_the_time_that_is_left() -> None:
    full = refusal("RESOURCE_EXHAUSTED", "QUEUE_FULL", retry_after=4)
    world = World(scripted(part([], full), part(answer(1))), timeout_s=10)
    run(world)
    assert [step.timeout_s for step in world.asked] == [10, 6]


def test_the_budget_ends_retries_of_a_cluster_in_trouble() -> None:
    world = World(lambda _: part([], FULL), policy=RetryPolicy(budget_max=3))
    for _ in range(10):
        run(world)
    assert len(world.asked) == 10 + 3


def test_a_client_that_shall_not_retry_does_not() -> None:
    world = World(lambda _: part([], FULL), policy=RetryPolicy(attempts_max=1))
    run(world)
    assert len(world.asked) == 1


@pytest.mark.parametrize("refused", [FULL, refusal("UNAVAILABLE", "DRAINING")])
def test_an_attempt_begins_behind_the_router_that_refused(refused: LeptonError) -> None:
    world = World(scripted(part([], refused), part([], refused), part(answer(1)), part(answer(1))))
    run(world)
    run(world)
    assert world.error is None
    assert world.routes == [
        "r1:1",
        "r2:1",
        "r1:1",
        "r1:1",
    ]  # the second call goes to who answered last


def test_other_calls_do_not_lead_a_retry_back_to_who_refused() -> None:
    routes: list[str] = []

    def serve(step: Open | Unary) -> Sequence[Reply]:
        routes.append(step.address)
        if len(routes) == 1:
            world.routers.answered("r2:1")  # so did another call, meanwhile
            return part([], FULL)
        return part(answer(1))

    world = World(serve)
    run(world)
    assert routes == ["r1:1", "r2:1"]


def test_a_stream_whose_router_drains_is_resumed_at_the_next_one() -> None:
    events = answer(3, token="t-1")
    draining = refusal("UNAVAILABLE", "DRAINING")
    world = World(scripted(part(events[:2], draining), part([], draining), part(events[2:])))
    run(world, resume=True)
    assert world.error is None
    assert world.routes == ["r1:1", "r2:1", "r1:1"]


def test_a_cut_stream_is_resumed_at_the_next_router() -> None:
    """Its own may be the one that hangs."""
    events = answer(3, token="t-1")
    world = World(scripted(part(events[:2], GONE), part([], GONE), part(events[2:])))
    run(world, resume=True)
    assert world.routes == ["r1:1", "r2:1", "r1:1"]


def test_whoever_wants_is_told_of_every_reconnection() -> None:
    events = answer(3, token="t-1")
    world = World(
        scripted(part([], GONE), part([], FULL), part(events[:2], GONE), part(events[2:]))
    )
    run(world, resume=True)
    told = [(one.address, one.after_seq, one.error.reason) for one in world.told]
    assert told == [
        ("r2:1", None, "UNREACHABLE"),
        ("r1:1", None, "QUEUE_FULL"),
        ("r2:1", 1, "WORKER_LOST"),
    ]


@pytest.mark.parametrize("cut", [1, 2, 4])
def test_without_resume_a_cut_stream_is_lost_and_not_asked_again(cut: int) -> None:
    world = World(scripted(part(answer(3)[:cut], GONE)))
    run(world)
    assert world.seqs == list(range(cut))
    assert world.error is not None
    assert world.error.reason == "WORKER_LOST"


def test_a_stream_that_ends_without_its_end_is_lost() -> None:
    world = World(scripted(part(answer(3)[:2])))
    run(world)
    assert world.error is not None
    assert world.error.reason == "WORKER_LOST"


def test_resume_goes_on_behind_the_last_event_by_token() -> None:
    events = answer(5, token="t-1")
    # The other side may repeat what is known.
    world = World(scripted(part(events[:3], GONE), part(events[1:])))
    run(world, resume=True)
    assert world.error is None
    assert world.seqs == list(range(7))
    first, second = (step.request for step in world.asked)
    assert isinstance(first, inference_pb2.GenerateRequest)
    assert isinstance(second, inference_pb2.GenerateRequest)
    assert first.resumable_ms == second.resumable_ms == 30_000
    assert not first.HasField("resume")
    assert (second.resume.resume_token, second.resume.after_seq) == ("t-1", 2)


def test_a_moved_stream_is_resumed_with_its_new_token() -> None:
    events = answer(2, token="t-1")
    moved = inference_pb2.Event(seq=1, migrated=inference_pb2.Migrated(resume_token="t-2"))
    for event in events[1:]:
        event.seq += 1
    world = World(scripted(part([events[0], moved], GONE), part(events[1:])))
    run(world, resume=True)
    assert world.error is None
    assert world.asked[1].request.resume.resume_token == "t-2"  # type: ignore[union-attr]


def test_resume_gives_up_after_five_tries_without_progress() -> None:
    events = answer(50, token="t-1")
    left = [part(events[:2], GONE), part(events[2:4], GONE)]  # progress: the count begins again
    world = World(lambda _: left.pop(0) if left else part([], GONE), addresses=("r1:1",))
    run(world, resume=True)
    assert len(world.asked) == 2 + 5
    assert world.error is not None
    assert world.seqs == [0, 1, 2, 3]


def test_resume_does_not_hide_what_the_cluster_says() -> None:
    gone = refusal("NOT_FOUND", "RESUME_NOT_FOUND")
    world = World(scripted(part(answer(5, token="t-1")[:2], GONE), part([], gone)))
    run(world, resume=True)
    assert world.error is gone


def test_whoever_resumes_by_hand_begins_in_the_middle() -> None:
    events = answer(5, token="t-1")
    world = World(scripted(part([], GONE), part(events[3:5], GONE), part(events[5:])))
    run(world, resume=True, resumable_ms=9, resume_from=("t-1", 2))
    assert world.error is None
    assert world.seqs == [3, 4, 5, 6]
    asked = [step.request.resume.after_seq for step in world.asked]  # type: ignore[union-attr]
    assert asked == [2, 2, 4]


def test_a_gap_is_a_fault_and_nothing_of_it_is_given() -> None:
    events = answer(3)
    world = World(scripted(part([events[0], events[2]])))
    run(world)
    assert world.seqs == [0]
    assert world.error is not None
    assert world.error.reason == "STREAM_FAULT"


def test_only_a_resumable_call_that_is_not_over_has_something_to_abort() -> None:
    assert run(World(scripted(part(answer(1))))).abort is None
    assert run(World(scripted(part(answer(1, token="t")))), resume=True).abort is None
    open_call = run(World(scripted(part(answer(1, token="t")[:2], FULL))), resume=True)
    assert open_call.abort is not None
    assert open_call.abort.resume_token == "t"


@given(
    num_tokens=st.integers(1, 12),
    cuts=st.lists(st.tuples(st.integers(0, 15), st.integers(0, 3)), max_size=12),
)
def test_whatever_breaks_events_come_once_and_in_order(
    num_tokens: int, cuts: list[tuple[int, int]]
) -> None:
    """Each connection brings so many events, beginning so many too early; then it breaks."""
    events = answer(num_tokens, token="t")
    left = list(cuts)

    def serve(step: Open | Unary) -> Sequence[Reply]:
        assert isinstance(step, Open)
        start = step.request.resume.after_seq + 1 if step.request.HasField("resume") else 0
        if not left:
            return part(events[start:])
        num, too_early = left.pop(0)
        start = max(0, start - too_early)
        return part(events[start : start + num], GONE)

    world = World(serve)
    run(world, resume=True)
    assert world.seqs == list(range(len(world.seqs)))
    if world.error is None:
        assert len(world.seqs) == len(events)
    else:
        assert world.error.reason in {"WORKER_LOST", "UNREACHABLE"}
    assert len(world.asked) <= 2 * (3 + 6 * (len(events) + 1))
