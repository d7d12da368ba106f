"""What the router reads out of Generate messages when it has to."""

from __future__ import annotations

import pytest

from common.errors import Internal, Reason
from common.request.stream_fault import StreamFault
from lepton.v1 import inference_pb2, types_pb2
from router.core.transcript import Transcript
from router.transport.generate_codec import ProtoGenerateCodec
from tests.support.story import story_of

CODEC = ProtoGenerateCodec()
REQUEST = inference_pb2.GenerateRequest(model="tiny", text="x")
STORY = list(story_of(REQUEST, worker_id="w1", tokens=6))


def request(**fields: object) -> bytes:
    made = inference_pb2.GenerateRequest(model="tiny", text="x")
    made.MergeFrom(inference_pb2.GenerateRequest(**fields))  # type: ignore[arg-type]
    return made.SerializeToString()


@pytest.mark.parametrize(
    "fields",
    [
        {"request_id": "another"},
        {"session_key": "s"},
        {"idempotency_key": "k"},
        {"resumable_ms": 5},
        {"resume": inference_pb2.ResumeFrom(resume_token="t")},
        {"priority": types_pb2.PRIORITY_HIGH},
        {"output": types_pb2.OutputOptions(token_ids=True)},
    ],
)
def test_fingerprint_does_not_hang_on_names(fields: dict[str, object]) -> None:
    plain = {"output": types_pb2.OutputOptions()} if "output" in fields else {}
    assert CODEC.fingerprint(request(**fields)) == CODEC.fingerprint(request(**plain))


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "y"},
        {"model": "other"},
        {"sampling": types_pb2.SamplingParams(seed=1)},
        {"stop": types_pb2.StopConditions(max_tokens=3)},
        {"output": types_pb2.OutputOptions(logprobs=1)},
    ],
)
def test_fingerprint_hangs_on_what_is_computed(fields: dict[str, object]) -> None:
    assert CODEC.fingerprint(request(**fields)) != CODEC.fingerprint(request())


def test_fingerprint_is_the_same_for_maps_in_any_order_and_with_unknown_fields() -> None:
    def biased(*ids: int) -> bytes:
        return request(sampling=types_pb2.SamplingParams(logit_bias={i: float(i) for i in ids}))

    assert CODEC.fingerprint(biased(1, 2, 3)) == CODEC.fingerprint(biased(3, 2, 1))
    assert CODEC.fingerprint(request() + b"\xfa\x3e\x03new") == CODEC.fingerprint(request())


def test_only_deltas_are_output() -> None:
    assert [CODEC.has_output(message) for message in STORY] == [False, *[True] * 5, False]
    assert not CODEC.has_output(b"\xff")


def test_ids_are_asked_for_and_taken_out() -> None:
    hidden = request(output=types_pb2.OutputOptions(token_ids=False, logprobs=2))
    asked = inference_pb2.GenerateRequest.FromString(CODEC.with_token_ids(hidden))
    assert asked.output.token_ids
    assert asked.output.logprobs == 2
    silent = inference_pb2.GenerateRequest.FromString(hidden)
    expected = list(story_of(silent, worker_id="w1", tokens=6))
    assert [CODEC.without_token_ids(message) for message in STORY] == expected
    assert CODEC.without_token_ids(b"\xff") == b"\xff"


def folded(*messages: bytes, bytes_max: int = 0) -> Transcript:
    record = CODEC.new_record(REQUEST.SerializeToString(), is_resumed=False)
    transcript = Transcript(record, bytes_max=bytes_max)
    for message in messages:
        transcript.add(message)
    return transcript


def test_whole_answer_is_known_to_be_whole() -> None:
    last = inference_pb2.GenerateResponse.FromString(STORY[-1]).events[0].finished
    assert folded(*STORY).read().finished == last.SerializeToString()
    assert folded(*STORY[:-1]).read().finished is None


def test_stream_that_began_elsewhere_cannot_go_on() -> None:
    """A resumed one: the router has not seen its beginning."""
    record = CODEC.new_record(REQUEST.SerializeToString(), is_resumed=True)
    for message in STORY[2:4]:
        record.check(message)
    record.take(STORY[2:4])
    assert record.continue_request(revision="r", attempt=1, from_worker_id="w1") is None


def delta(seq: int, **fields: object) -> bytes:
    event = inference_pb2.Event(seq=seq, delta=inference_pb2.Delta(**fields))  # type: ignore[arg-type]
    return inference_pb2.GenerateResponse(events=[event]).SerializeToString()


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        (STORY[1], "repeated"),
        (STORY[3], "gap"),
        (STORY[2] + STORY[4], "gap"),
        (b"\xff\xff", "unreadable"),
    ],
)
@pytest.mark.parametrize("bytes_max", [0, 1 << 16])
def test_message_that_breaks_the_order_does_not_get_in(
    more: bytes, kind: str, bytes_max: int
) -> None:
    transcript = folded(*STORY[:2], bytes_max=bytes_max)
    with pytest.raises(Internal, match="broke the rules") as caught:
        transcript.add(more)
    assert caught.value.reason is Reason.STREAM_FAULT
    assert isinstance(caught.value.__cause__, StreamFault)
    assert transcript.faults == [kind]
    assert transcript.num_messages == 2
    for message in STORY[2:]:
        transcript.add(message)
    assert transcript.read().finished is not None


def test_stream_that_does_not_begin_with_its_beginning_does_not_begin() -> None:
    with pytest.raises(Internal, match="event 1 came where 0 was due"):
        folded(STORY[1])


def test_what_was_read_too_late_cannot_be_gone_on_with() -> None:
    transcript = folded(*STORY[:2])
    with pytest.raises(Internal, match="was not asked for"):
        transcript.add(delta(2, index=7, text="who"))
    assert transcript.faults == ["unreadable"]
    with pytest.raises(Internal, match="was not asked for"):
        transcript.read()
    assert transcript.faults == ["unreadable"]


def test_nothing_comes_after_an_end() -> None:
    with pytest.raises(Internal):
        folded(*STORY, delta(len(STORY), text="more"))
    with pytest.raises(Internal):
        folded(*STORY[:-1], delta(len(STORY) - 1, text="more"))


def test_raw_bytes_are_bounded_and_counted() -> None:
    transcript = folded(*STORY, bytes_max=50)
    assert transcript.num_messages == len(STORY)
    assert sum(map(len, transcript._messages)) <= 50
