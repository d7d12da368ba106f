"""The walk over raw bytes says what protobuf says, whatever bytes come; only the inside of an event it leaves alone."""

from __future__ import annotations

from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from common.request.event_order import seq_after
from common.request.stream_fault import StreamFault
from lepton.v1 import inference_pb2

SEQS = st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1))
TEXTS = st.text(max_size=200)


@st.composite
def events(draw: st.DrawFn) -> inference_pb2.Event:
    event = inference_pb2.Event(seq=draw(SEQS))
    match draw(st.sampled_from(["started", "delta", "migrated", "finished", "nothing"])):
        case "started":
            event.started.worker_id = draw(TEXTS)
        case "delta":
            event.delta.text = draw(TEXTS)
            event.delta.token_ids.extend(draw(st.lists(st.integers(0, 2**32 - 1), max_size=5)))
        case "migrated":
            event.migrated.SetInParent()
        case "finished":
            event.finished.usage.prompt_tokens = 7
    return event


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


UNKNOWN = st.one_of(
    st.builds(field, st.integers(6, 5000), st.binary(max_size=20)),
    st.builds(field, st.integers(6, 5000), st.integers(0, 2**64 - 1)),
    st.just(b""),
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Responses as any writer may put them: fields of the future, a `seq` twice or last, several messages as one."""
    message = draw(UNKNOWN)
    due = draw(SEQS)
    for event in draw(st.lists(events(), max_size=4)):
        if draw(st.booleans()):
            event.seq = due % 2**64
        due = event.seq + 1
        parts = [event.SerializeToString(), draw(UNKNOWN)]
        if draw(st.integers(0, 9)) == 0:
            parts.append(field(1, draw(SEQS)))
        message += field(1, b"".join(draw(st.permutations(parts)))) + draw(UNKNOWN)
    return message


def told(message: bytes, due: int | None) -> int | str | None:
    try:
        return seq_after(message, due)
    except StreamFault as fault:
        return fault.kind


def parsed(message: bytes, due: int | None) -> int | str | None:
    try:
        response = inference_pb2.GenerateResponse.FromString(message)
    except DecodeError:
        return "unreadable"
    for event in response.events:
        if due is not None and event.seq != due:
            return "repeated" if event.seq < due else "gap"
        due = event.seq + 1
    return due


@given(message=messages(), due=st.one_of(st.none(), SEQS))
def test_walk_agrees_with_protobuf(message: bytes, due: int | None) -> None:
    assert told(message, due) == parsed(message, due)
    first = inference_pb2.GenerateResponse.FromString(message).events[:1]
    if first:
        assert told(message, first[0].seq) == parsed(message, first[0].seq)


@given(
    parts=st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=3), min_size=1, max_size=5),
    due=st.integers(0, 20),
)
def test_merged_messages_are_as_one_after_the_other(parts: list[list[int]], due: int) -> None:
    each = [
        inference_pb2.GenerateResponse(
            events=[inference_pb2.Event(seq=s, delta=inference_pb2.Delta(text="x")) for s in seqs]
        ).SerializeToString()
        for seqs in parts
    ]
    at: int | str | None = due
    for message in each:
        if isinstance(at, int):
            at = told(message, at)
    assert told(b"".join(each), due) == at


@given(message=messages(), cut=st.integers(0, 60), noise=st.binary(max_size=12), at=st.integers(0))
@example(message=b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", cut=0, noise=b"", at=0)
@example(message=b"\x0a\x02\x08\xff", cut=0, noise=b"", at=0)
@example(
    message=b"\x0a\x0c\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", cut=0, noise=b"", at=0
)
def test_damaged_bytes_raise_nothing_else(message: bytes, cut: int, noise: bytes, at: int) -> None:
    at %= len(message) + 1
    damaged = (message[:at] + noise + message[at + len(noise) // 2 :])[: len(message) - cut % 7]
    for due in (None, 0, 7):
        answer, expected = told(damaged, due), parsed(damaged, due)
        # What stands inside an event may be no message, which shows when somebody reads it.
        assert answer == expected or expected == "unreadable"


@given(noise=st.binary(max_size=64))
def test_any_bytes_raise_nothing_else(noise: bytes) -> None:
    answer, expected = told(noise, 0), parsed(noise, 0)
    assert answer == expected or expected == "unreadable"
