"""What the router reads out of Generate messages when it has to."""

from __future__ import annotations

import pytest

from common.errors import Internal
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
    transcript = Transcript(CODEC.new_record(REQUEST.SerializeToString()), bytes_max=bytes_max)
    for message in messages:
        transcript.add(message)
    return transcript


def test_whole_answer_is_known_to_be_whole() -> None:
    last = inference_pb2.GenerateResponse.FromString(STORY[-1]).events[0].finished
    assert folded(*STORY).read().finished == last.SerializeToString()
    assert folded(*STORY[:-1]).read().finished is None


def test_stream_that_began_elsewhere_cannot_go_on() -> None:
    """A resumed one: the router has not seen its beginning."""
    record = folded(*STORY[2:4]).read()
    assert record.continue_request(revision="r", attempt=1, from_worker_id="w1") is None


def delta(seq: int, **fields: object) -> bytes:
    event = inference_pb2.Event(seq=seq, delta=inference_pb2.Delta(**fields))  # type: ignore[arg-type]
    return inference_pb2.GenerateResponse(events=[event]).SerializeToString()


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        (STORY[1], "repeated"),
        (STORY[3], "gap"),
        (b"\xff\xff", "unreadable"),
        (delta(2, index=7, text="who"), "unreadable"),
    ],
)
def test_broken_rules_are_named(more: bytes, kind: str) -> None:
    transcript = folded(*STORY[:2])
    with pytest.raises(Internal, match="broke the rules") as caught:
        transcript.add(more)
    assert transcript.fault == kind
    assert isinstance(caught.value.__cause__, StreamFault)


def test_nothing_comes_after_an_end() -> None:
    with pytest.raises(Internal):
        folded(*STORY, delta(len(STORY), text="more"))
    with pytest.raises(Internal):
        folded(*STORY[:-1], delta(len(STORY) - 1, text="more"))


def test_raw_bytes_are_bounded_and_counted() -> None:
    transcript = folded(*STORY, bytes_max=50)
    assert transcript.num_messages == len(STORY)
    assert sum(map(len, transcript._messages)) <= 50
