"""`POST /tokenize` and `/detokenize`, as vLLM has them."""

from __future__ import annotations

from typing import final

from starlette.requests import Request
from starlette.responses import Response

from common.errors import InvalidRequest, Reason
from gateway.frame import Frame
from gateway.http.body import read_json
from gateway.openai.ask import asked_of, in_words
from gateway.openai.chunks import encode
from gateway.openai.fields import DetokenizeRequest, TokenizeRequest
from gateway.openai.logprobs import token_text
from gateway.openai.read import read
from gateway.openai.to_generate import messages_to_chat
from gateway.openai.tools import shown_of
from lepton.v1 import inference_pb2

__all__ = ["TokenDoor"]


@final
class TokenDoor:
    """Asks the cluster for token ids and for their text."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    async def tokenize(self, request: Request) -> Response:
        """Raises `LeptonError`."""
        asked = read(await read_json(request, self._frame.settings), TokenizeRequest)
        with in_words({"input": "messages" if asked.messages is not None else "prompt"}):
            answer = inference_pb2.TokenizeResponse.FromString(
                await self._frame.upstream.unary("Tokenize", _to_tokenize(asked), asked_of(request))
            )
        body = {"count": len(answer.token_ids), "tokens": list(answer.token_ids)}
        if asked.return_token_strs:
            body["token_strs"] = [token_text(token) for token in answer.tokens]
        return Response(encode(body), media_type="application/json")

    async def detokenize(self, request: Request) -> Response:
        """Raises `LeptonError`."""
        asked = read(await read_json(request, self._frame.settings), DetokenizeRequest)
        message = inference_pb2.DetokenizeRequest(model=asked.model or "", token_ids=asked.tokens)
        with in_words({"token_ids": "tokens"}):
            answer = inference_pb2.DetokenizeResponse.FromString(
                await self._frame.upstream.unary("Detokenize", message, asked_of(request))
            )
        return Response(encode({"prompt": answer.text}), media_type="application/json")


def _to_tokenize(asked: TokenizeRequest) -> inference_pb2.TokenizeRequest:
    if (asked.prompt is None) == (asked.messages is None):
        raise InvalidRequest(
            "send one of prompt and messages",
            reason=Reason.FIELD_REQUIRED if asked.prompt is None else Reason.FIELDS_CONTRADICT,
            field="prompt",
        )
    message = inference_pb2.TokenizeRequest(model=asked.model or "")
    if asked.messages is None:
        message.text = asked.prompt or ""
        return message
    message.chat.CopyFrom(messages_to_chat(asked.messages))
    message.chat.tools.extend(shown_of(asked.tools))
    if asked.add_generation_prompt is not None:
        message.chat.add_generation_prompt = asked.add_generation_prompt
    return message
