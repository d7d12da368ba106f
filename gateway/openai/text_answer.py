"""Answers of `/v1/completions`, streamed and whole."""

from __future__ import annotations

from typing import Any, Final, final

from gateway.openai.chunks import Chunks, Envelope, encode, finish_reason
from gateway.openai.logprobs import text_logprobs
from gateway.openai.place import Place
from lepton.v1 import inference_pb2

__all__ = ["TEXT_KIND", "TextChunks", "text_choice"]

TEXT_KIND: Final = "text_completion"


@final
class TextChunks(Chunks):
    """Of one prompt; `first_index` is the index of its first choice among those of all prompts."""

    def __init__(
        self,
        envelope: Envelope,
        *,
        request_id: str,
        place: Place | None,
        first_index: int,
        tells_logprobs: bool,
    ) -> None:
        super().__init__(envelope, request_id=request_id, place=place)
        self._first_index = first_index
        self._tells_logprobs = tells_logprobs
        self._offsets: dict[int, int] = {}

    def _opening(self) -> list[bytes]:
        return []

    def _delta(self, delta: inference_pb2.Delta) -> list[bytes]:
        ends = delta.HasField("end")
        if not delta.text and not delta.logprobs and not ends:
            return []
        logprobs = b"null"
        if self._tells_logprobs:
            told, self._offsets[delta.index] = text_logprobs(
                delta.logprobs, self._offsets.get(delta.index, 0)
            )
            logprobs = encode(told)
        return [
            b'{"index":%d,"text":%b,"logprobs":%b,"finish_reason":%b}'
            % (
                self._first_index + delta.index,
                encode(delta.text),
                logprobs,
                encode(finish_reason(delta.end)) if ends else b"null",
            )
        ]


def text_choice(
    index: int,
    text: str,
    logprobs: list[Any] | None,
    end: inference_pb2.ChoiceEnd,
) -> dict[str, Any]:
    """One of `choices` of a whole answer."""
    return {
        "index": index,
        "text": text,
        "logprobs": None if logprobs is None else text_logprobs(logprobs, 0)[0],
        "finish_reason": finish_reason(end),
    }
