"""What the ring keeps, what it drops, and that everybody reads 0, 1, 2, … without gap or repetition."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Cancelled, Internal, InvalidRequest, LeptonError, NotFound, Reason
from lepton.v1 import inference_pb2
from worker.transport.replay_ring import ReplayBudget, ReplayRing
from worker.transport.running_call import RunningCall


def message(first_seq: int, num_events: int = 1, *, text: str = "x") -> bytes:
    """Events from `first_seq` on."""
    events = [
        inference_pb2.Event(seq=first_seq + i, delta=inference_pb2.Delta(text=text))
        for i in range(num_events)
    ]
    return inference_pb2.GenerateResponse(events=events).SerializeToString()


def seqs(data: bytes) -> list[int]:
    return [event.seq for event in inference_pb2.GenerateResponse.FromString(data).events]


def ring_of(*sizes: int, first_seq: int = 0, bytes_max: int = 1 << 20) -> ReplayRing:
    """A ring with messages of so many events each."""
    ring = ReplayRing(ReplayBudget(), bytes_max=bytes_max, first_seq=first_seq)
    for size in sizes:
        ring.append(message(ring.next_seq, size), next_seq=ring.next_seq + size)
    return ring


def call_of(ring: ReplayRing) -> RunningCall:
    return RunningCall(
        call_id=b"0" * 16,
        caller="",
        fingerprint=b"f",
        ring=ring,
        key=None,
        linger_s=1.0,
        keep_s=1.0,
    )


def read_all(ring: ReplayRing, seq: int, *, bytes_max: int) -> list[int]:
    found = []
    while seq < ring.next_seq:
        data, seq = ring.read(seq, bytes_max=bytes_max)
        found += seqs(data)
    return found


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=20),
    st.integers(0, 1000),
    st.integers(0, 80),
    st.integers(1, 200),
    st.integers(0, 30),
)
def test_from_any_seq_that_is_kept_everything_comes_once(
    sizes: list[int], first_seq: int, offset: int, bytes_max: int, num_dropped: int
) -> None:
    ring = ring_of(*sizes, first_seq=first_seq)
    for _ in range(num_dropped):
        ring.drop_oldest()
    seq = min(ring.first_seq + offset, ring.next_seq)
    assert read_all(ring, seq, bytes_max=bytes_max) == list(range(seq, ring.next_seq))


def test_a_message_in_the_middle_of_which_somebody_begins_is_cut() -> None:
    data, after = ring_of(3, 2).read(1, bytes_max=1)
    assert (seqs(data), after) == ([1, 2], 3)


def test_a_reader_that_keeps_up_gets_the_very_bytes() -> None:
    ring = ring_of(2)
    ring.append(message(2, 1, text="grüß"), next_seq=3)
    assert ring.read(2, bytes_max=1) == (message(2, 1, text="grüß"), 3)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 400)), max_size=40))
def test_memory_stays_under_its_bound_but_for_the_last_message(
    appended: list[tuple[int, int]],
) -> None:
    budget = ReplayBudget()
    ring = ReplayRing(budget, bytes_max=1000)
    for size, length in appended:
        data = message(ring.next_seq, size, text="y" * length)
        ring.append(data, next_seq=ring.next_seq + size)
        assert ring.num_bytes <= max(1000, len(data) + 200)
        assert budget.num_bytes == ring.num_bytes
    ring.clear()
    assert budget.num_bytes == 0


def test_who_begins_before_the_ring_is_told_that_it_expired() -> None:
    call = call_of(ring_of(1, 1, 1, bytes_max=1))
    call.check_seq(2)
    call.check_seq(3)
    with pytest.raises(NotFound) as expired:
        call.check_seq(1)
    assert expired.value.reason is Reason.RESUME_EXPIRED


def test_who_claims_events_that_do_not_exist_is_told() -> None:
    with pytest.raises(InvalidRequest) as refused:
        call_of(ring_of(1, 1)).check_seq(3)
    assert refused.value.field == "resume.after_seq"


def test_another_request_is_refused_by_the_name_of_the_field() -> None:
    call = call_of(ring_of(1))
    call.check_same(b"f", by_key=True)
    for by_key, reason in (
        (True, Reason.IDEMPOTENCY_KEY_REUSED),
        (False, Reason.FIELDS_CONTRADICT),
    ):
        with pytest.raises(InvalidRequest) as refused:
            call.check_same(b"g", by_key=by_key)
        assert refused.value.reason is reason


async def test_a_listener_waits_for_what_comes_and_sees_the_end() -> None:
    call = call_of(ring_of())

    async def generate() -> None:
        call.ring.append(message(0), next_seq=1)
        call.tell()

    async with asyncio.TaskGroup() as group:
        reading = group.create_task(call.read(0))  # runs first, and finds nothing
        group.create_task(generate())
    assert reading.result() == (message(0), 1)
    call.end(b"finished")
    assert await call.read(1) is None
    assert call.finished == b"finished"
    call.end(Internal("too late"))
    assert not call.has_failed


async def test_every_listener_reads_everything_before_the_error() -> None:
    call = call_of(ring_of(1, 1))
    call.end(Internal("broken"))
    for _ in range(2):
        assert await call.read(0) == (message(0) + message(1), 2)
        with pytest.raises(LeptonError, match="broken"):
            await call.read(2)


async def test_a_listener_that_fell_out_of_the_ring_is_cut_off() -> None:
    call = call_of(ring_of(1, 1, 1, bytes_max=1))
    with pytest.raises(Cancelled) as cut:
        await call.read(0)
    assert cut.value.reason is Reason.SLOW_READER
