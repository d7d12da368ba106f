"""A client that comes back gets exactly what it lacks, however the stream is cut into messages."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from lepton.v1 import inference_pb2
from router.transport.trimmed import TrimmedWrite


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.integers(0, 40), st.integers(0, 9))
def test_what_the_client_has_is_taken_out_and_nothing_else(
    sizes: list[int], after_seq: int, first_seq: int
) -> None:
    events = [
        inference_pb2.Event(seq=first_seq + i, delta=inference_pb2.Delta(text=str(i)))
        for i in range(sum(sizes))
    ]
    messages, begin = [], 0
    for size in sizes:
        part = inference_pb2.GenerateResponse(events=events[begin : begin + size])
        messages.append(part.SerializeToString())
        begin += size
    written: list[bytes] = []

    async def write(message: bytes) -> None:
        written.append(message)

    async def relay() -> None:
        trimmed = TrimmedWrite(write, after_seq)
        for message in messages:
            await trimmed(message)

    asyncio.run(relay())
    # Two messages merge by concatenating their bytes.
    got = inference_pb2.GenerateResponse.FromString(b"".join(written))
    assert list(got.events) == [event for event in events if event.seq > after_seq]
    assert all(written), "no empty messages"
    assert set(written[1:]) <= set(messages), "behind the cut the bytes are the worker's"
