"""Answers of `/v1/chat/completions`, streamed and whole: text, thoughts and calls of tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, final

from gateway.openai.chunks import Chunks, Envelope, encode, finish_reason
from gateway.openai.logprobs import chat_logprobs
from gateway.openai.place import Place
from gateway.tools.api import (
    ArgumentsDelta,
    CallBegun,
    OutputParser,
    Piece,
    ReasoningDelta,
    TextDelta,
)
from lepton.v1 import inference_pb2, types_pb2

__all__ = ["CHAT_KIND", "ChatChunks", "chat_choice"]

CHAT_KIND: Final = "chat.completion.chunk"

NewParser = Callable[[int], OutputParser]
"""Makes the parser of a choice, by its index."""


@final
class ChatChunks(Chunks):
    """Of one chat with `num_choices` answers."""

    def __init__(
        self,
        envelope: Envelope,
        *,
        request_id: str,
        place: Place | None,
        num_choices: int,
        tells_logprobs: bool,
        new_parser: NewParser,
    ) -> None:
        super().__init__(envelope, request_id=request_id, place=place)
        self._tells_logprobs = tells_logprobs
        self._num_choices = num_choices  # as asked: how many may be asked for, the cluster says
        self._new_parser = new_parser
        self._parsers: dict[int, OutputParser] = {}

    def _opening(self) -> list[bytes]:
        return [
            _choice(index, b'{"role":"assistant","content":""}')
            for index in range(self._num_choices)
        ]

    def _delta(self, delta: inference_pb2.Delta) -> list[bytes]:
        index = delta.index
        parser = self._parsers.get(index)
        if parser is None:
            parser = self._parsers[index] = self._new_parser(index)
        ends = delta.HasField("end")
        pieces = parser.feed(delta.text) if delta.text else []
        if ends:
            pieces += parser.finish()
        made = [
            _choice(index, changed) for piece in pieces if (changed := _changed(piece)) is not None
        ]
        if self._tells_logprobs and delta.logprobs:
            # They are those of the raw text, and ride on what it became, if it became anything yet.
            told = encode(chat_logprobs(delta.logprobs))
            first = _changed(pieces[0]) if pieces else None
            made[:1] = [_choice(index, first or b"{}", logprobs=told)]
        if ends:
            made.append(_choice(index, b"{}", reason=encode(_reason(delta.end, parser))))
        return made


def _choice(
    index: int, delta: bytes, *, logprobs: bytes = b"null", reason: bytes = b"null"
) -> bytes:
    return b'{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}' % (
        index,
        delta,
        logprobs,
        reason,
    )


def _changed(piece: Piece) -> bytes | None:
    """`delta` of a chunk."""
    if isinstance(piece, TextDelta):
        return b'{"content":%b}' % encode(piece.text)
    if isinstance(piece, ReasoningDelta):
        return b'{"reasoning_content":%b}' % encode(piece.text)
    if isinstance(piece, CallBegun):
        call = {**_call(piece.id, piece.name, ""), "index": piece.index}
        return encode({"tool_calls": [call]})
    if isinstance(piece, ArgumentsDelta):
        arguments = {"index": piece.index, "function": {"arguments": piece.text}}
        return encode({"tool_calls": [arguments]})
    return None


def _call(id_: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def _reason(end: inference_pb2.ChoiceEnd, parser: OutputParser) -> str:
    if parser.num_calls and end.reason == types_pb2.FINISH_REASON_STOP:
        return "tool_calls"
    return finish_reason(end)


def chat_choice(
    index: int,
    text: str,
    logprobs: Iterable[types_pb2.PositionLogprobs] | None,
    end: inference_pb2.ChoiceEnd,
    parser: OutputParser,
) -> dict[str, Any]:
    """One of `choices` of a whole answer; `parser` is fresh."""
    said: list[str] = []
    thought: list[str] = []
    calls: list[dict[str, Any]] = []
    for piece in (*parser.feed(text), *parser.finish()):
        if isinstance(piece, TextDelta):
            said.append(piece.text)
        elif isinstance(piece, ReasoningDelta):
            thought.append(piece.text)
        elif isinstance(piece, CallBegun):
            calls.append(_call(piece.id, piece.name, ""))
        elif isinstance(piece, ArgumentsDelta):
            calls[piece.index]["function"]["arguments"] += piece.text
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if calls and not said else "".join(said),
        "refusal": None,
    }
    if thought:
        message["reasoning_content"] = "".join(thought)
    if calls:
        message["tool_calls"] = calls
    return {
        "index": index,
        "message": message,
        "logprobs": None if logprobs is None else chat_logprobs(logprobs),
        "finish_reason": _reason(end, parser),
    }
