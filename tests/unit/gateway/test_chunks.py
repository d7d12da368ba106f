"""Events of the cluster → chunks: exact bytes, whatever the text; the same joined, however it is cut."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from common.errors import Unavailable
from gateway.openai.chat_answer import CHAT_KIND, ChatChunks, chat_choice
from gateway.openai.chunks import Envelope, error_event
from gateway.openai.logprobs import text_logprobs, token_text
from gateway.openai.place import Place, place_of
from gateway.tools.api import ToolChoice
from gateway.tools.plan import plan_tools
from lepton.v1 import inference_pb2, types_pb2

PLAIN = plan_tools([], ToolChoice(), tool_format="")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def chunks(*, place: Place | None = None, tells_usage: bool = False) -> ChatChunks:
    envelope = Envelope(kind=CHAT_KIND, id_="c", created=1, model="m", tells_usage=tells_usage)
    return ChatChunks(
        envelope,
        request_id="r",
        place=place,
        num_choices=1,
        tells_logprobs=False,
        new_parser=lambda _: PLAIN.new_parser("s"),
    )


def story(texts: list[str], token: str = "") -> list[inference_pb2.Event]:
    started = inference_pb2.Started(request_id="r", model="m", resume_token=token)
    deltas = [inference_pb2.Delta(text=text) for text in texts]
    deltas.append(inference_pb2.Delta(end={"reason": types_pb2.FINISH_REASON_STOP}))
    return [
        inference_pb2.Event(seq=0, started=started),
        *(inference_pb2.Event(seq=seq, delta=delta) for seq, delta in enumerate(deltas, 1)),
    ]


def message(*events: inference_pb2.Event) -> bytes:
    return inference_pb2.GenerateResponse(events=events).SerializeToString()


def parsed(sse: bytes) -> list[dict[str, Any]]:
    """By the letter: events end with an empty line, and nothing else."""
    events = sse.decode().split("\n\n")
    assert events.pop() == ""
    found = []
    for event in events:
        data = [line for line in event.split("\n") if line.startswith("data: ")]
        assert len(data) == 1
        assert "\r" not in event
        found.append(json.loads(data[0].removeprefix("data: ")))
    return found


def said(events: list[dict[str, Any]]) -> str:
    return "".join(e["choices"][0]["delta"].get("content") or "" for e in events)


@given(st.lists(TEXTS, max_size=6))
def test_any_text_survives(texts: list[str]) -> None:
    events = parsed(chunks().feed(message(*story(texts))))
    assert said(events) == "".join(texts)
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


@given(st.lists(TEXTS, max_size=6))
def test_merged_messages_say_the_same(texts: list[str]) -> None:
    one_by_one = chunks()
    separate = b"".join(one_by_one.feed(message(event)) for event in story(texts))
    assert separate == chunks().feed(message(*story(texts)))


@given(st.lists(TEXTS.filter(bool), min_size=1, max_size=6), st.data())
def test_who_comes_back_gets_the_rest(texts: list[str], data: st.DataObject) -> None:
    events = story(texts, token="tok")
    whole = chunks().feed(message(*events))
    seq = data.draw(st.integers(0, len(events) - 1))
    place = Place(seq=seq, token="tok", request_id="r")
    rest = chunks(place=place).feed(message(*events))
    assert whole.endswith(rest)
    assert f"id: {place}\n".encode() in whole
    assert f"id: {place}\n".encode() not in rest


def test_a_place_goes_there_and_back() -> None:
    place = Place(seq=17, token="AUS3_-", request_id="a.b:c-1")
    assert place_of(str(place)) == place
    assert place_of("") is None


def test_a_whole_answer() -> None:
    end = inference_pb2.ChoiceEnd(reason=types_pb2.FINISH_REASON_LENGTH)
    choice = chat_choice(0, "<think>hm</think>yes", None, end, PLAIN.new_parser("s"))
    assert choice["message"]["content"] == "yes"
    assert choice["message"]["reasoning_content"] == "hm"
    assert choice["finish_reason"] == "length"


def test_an_error_event_says_what_a_body_would() -> None:
    error = Unavailable("gone", retry_after_s=1.5)
    assert parsed(error_event(error)) == [
        {
            "error": {
                "message": "gone",
                "type": "service_unavailable_error",
                "param": None,
                "code": "no_worker",
                "retry_after_s": 1.5,
            }
        }
    ]


def test_parts_of_characters_are_told_apart() -> None:
    assert token_text("é".encode()) == "é"
    assert token_text(b"\xc3") != token_text(b"\xa9")
    told, end = text_logprobs(
        [
            types_pb2.PositionLogprobs(chosen=types_pb2.TokenLogprob(token=token, logprob=-1))
            for token in (b"ab", b"", b"c")
        ],
        10,
    )
    assert told["text_offset"] == [10, 12, 12]
    assert end == 13
