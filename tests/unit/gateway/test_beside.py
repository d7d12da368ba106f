"""What chunks say beside OpenAI's fields, and that every chunk before the usage has a choice."""

from __future__ import annotations

import json
from typing import Any

from gateway.openai.chat_answer import ChatChunks
from gateway.openai.chunks import Envelope
from gateway.tools.plan import ToolChoice, plan_tools
from lepton.v1 import inference_pb2, types_pb2


def _chunks(*, tells_usage: bool = True) -> tuple[Envelope, ChatChunks]:
    envelope = Envelope(
        kind="chat.completion.chunk",
        id_="chatcmpl-1",
        created=1,
        model="m",
        tells_usage=tells_usage,
    )
    plan = plan_tools((), ToolChoice(), tool_format="")
    chunks = ChatChunks(
        envelope,
        request_id="r",
        place=None,
        num_choices=1,
        tells_logprobs=False,
        new_parser=lambda index: plan.new_parser(str(index)),
    )
    return envelope, chunks


def _feed(chunks: ChatChunks, seq: int, **kind: Any) -> bytes:
    event = inference_pb2.Event(seq=seq, **kind)
    return chunks.feed(inference_pb2.GenerateResponse(events=[event]).SerializeToString())


def _said(raw: bytes) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in raw.decode().split("\n") if line]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_worker_moves_and_timings_ride_on_chunks_that_are_sent_anyway() -> None:
    envelope, chunks = _chunks()
    started = inference_pb2.Started(worker_id="w1", revision="ab", seed=7, model="m")
    moved = inference_pb2.Migrated(from_worker_id="w1", to_worker_id="w2", replayed_tokens=3)
    raw = _feed(chunks, 0, started=started)
    raw += _feed(chunks, 1, delta=inference_pb2.Delta(text="a"))
    raw += _feed(chunks, 2, migrated=moved)
    raw += _feed(chunks, 3, delta=inference_pb2.Delta(text="b"))
    raw += _feed(
        chunks,
        4,
        finished=inference_pb2.Finished(
            usage=types_pb2.Usage(completion_tokens=2), timings=types_pb2.Timings(decode_us=5)
        ),
    )
    said = _said(raw)
    assert all(chunk["choices"] for chunk in said)
    assert [chunk.get("lepton") for chunk in said] == [
        {"worker": "w1", "revision": "ab", "seed": 7},
        None,
        {"migrated": {"from": "w1", "to": "w2", "replayed_tokens": 3}},
    ]
    (last,) = _said(envelope.last([chunks.usage], chunks.beside))
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 2
    assert last["lepton"]["timings"]["decode_us"] == 5


def test_without_usage_nothing_follows_the_last_choice() -> None:
    envelope, chunks = _chunks(tells_usage=False)
    _feed(chunks, 0, finished=inference_pb2.Finished())
    assert envelope.last([chunks.usage], chunks.beside) == b"data: [DONE]\n\n"
