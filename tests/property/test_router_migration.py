"""However often and wherever a stream breaks: what the client has, taken together, is the whole answer, once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lepton.v1 import inference_pb2, types_pb2
from router.core.transcript import Transcript
from router.transport.generate_codec import ProtoGenerateCodec
from tests.support.story import Told, story_of

CODEC = ProtoGenerateCodec()


@given(
    num_choices=st.integers(1, 4),
    tokens=st.integers(1, 30),
    breaks=st.lists(st.integers(1, 40), max_size=6),
    bytes_max=st.sampled_from([0, 1, 60, 500, 1 << 16]),
    hides_ids=st.booleans(),
    merged=st.integers(1, 4),
)
def test_a_broken_stream_is_whole(
    num_choices: int, tokens: int, breaks: list[int], bytes_max: int, hides_ids: bool, merged: int
) -> None:
    request = inference_pb2.GenerateRequest(
        text="x", sampling=types_pb2.SamplingParams(n=num_choices)
    )
    if hides_ids:
        request.output.token_ids = False
    payload = request.SerializeToString()
    if hides_ids:
        payload = CODEC.with_token_ids(payload)
    transcript = Transcript(CODEC.new_record(payload, is_resumed=False), bytes_max=bytes_max)
    client: list[bytes] = []
    for attempt, length in enumerate([*breaks, None]):
        asked = inference_pb2.GenerateRequest.FromString(payload)
        story = list(story_of(asked, worker_id=f"w{attempt}", tokens=tokens))[:length]
        # A slow reader gets several at once: two messages merge by concatenation.
        for start in range(0, len(story), merged):
            message = b"".join(story[start : start + merged])
            transcript.add(message)
            client.append(CODEC.without_token_ids(message) if hides_ids else message)
        record = transcript.read()
        if record.finished is not None:
            break
        continued = record.continue_request(
            revision="r", attempt=attempt + 1, from_worker_id=f"w{attempt}"
        )
        assert continued is not None
        payload = continued
    Told.of(client).check(tokens, num_choices=num_choices, with_ids=not hides_ids)
