"""`POST /v1/chat/completions`."""

from __future__ import annotations

from typing import Final, final

from starlette.requests import Request
from starlette.responses import Response

from gateway.frame import Frame
from gateway.http.body import read_json
from gateway.http.call import call_of
from gateway.http.connected import while_connected
from gateway.http.event_stream import Emit, EventStream
from gateway.openai.ask import asked_of, in_words
from gateway.openai.chat_answer import CHAT_KIND, ChatChunks, NewParser, chat_choice
from gateway.openai.chunks import Envelope, encode, error_event, fingerprint
from gateway.openai.collected import Collected
from gateway.openai.constraints import constraint_name
from gateway.openai.fields import ChatRequest
from gateway.openai.idempotency import key_words, with_key
from gateway.openai.model_list import ModelList
from gateway.openai.place import place_of
from gateway.openai.read import read
from gateway.openai.to_generate import chat_to_generate, timeout_s_of
from gateway.openai.tools import choice_of, specs_of
from gateway.openai.usage import usage_of
from gateway.tools.plan import plan_tools
from lepton.v1 import inference_pb2

__all__ = ["ChatDoor"]

_ID: Final = "chatcmpl-"


@final
class ChatDoor:
    """Answers chats."""

    def __init__(self, frame: Frame, models: ModelList) -> None:
        self._frame = frame
        self._models = models

    async def __call__(self, request: Request) -> Response:
        """Raises `LeptonError` before anything of an answer was sent."""
        asked = read(await read_json(request, self._frame.settings), ChatRequest)
        asked = with_key(asked, request.headers)
        place = place_of(request.headers.get("last-event-id", ""))
        request_id = place.request_id if place else call_of(request.scope).request_id
        with in_words(_words(asked, request)):
            message = chat_to_generate(asked, request_id)
            new_parser = await self._plan_tools(asked, message)
        if not asked.stream:
            return await self._whole(request, asked, message, new_parser)
        if place is not None:
            message.resume.resume_token = place.token
            if (
                not asked.tools
            ):  # else what the client has must be read again, to know what was a call
                message.resume.after_seq = place.seq
        envelope = self._envelope(asked, request_id)
        chunks = ChatChunks(
            envelope,
            request_id=request_id,
            place=place,
            num_choices=message.sampling.n or 1,
            tells_logprobs=bool(asked.logprobs),
            new_parser=new_parser,
        )
        return self._stream(request, asked, message, chunks, envelope)

    async def _plan_tools(
        self, asked: ChatRequest, message: inference_pb2.GenerateRequest
    ) -> NewParser:
        plan = plan_tools(
            specs_of(asked.tools),
            choice_of(asked),
            tool_format=await self._models.tool_format(message.model),
            answer=message.constraint if message.HasField("constraint") else None,
        )
        message.chat.tools.extend(plan.shown)
        if plan.constraint is not None:
            message.constraint.CopyFrom(plan.constraint)
        return lambda index: plan.new_parser(f"{message.request_id}:{index}")

    async def _whole(
        self,
        request: Request,
        asked: ChatRequest,
        message: inference_pb2.GenerateRequest,
        new_parser: NewParser,
    ) -> Response:
        answer = Collected()
        with in_words(_words(asked, request)):
            async with while_connected(request.receive):
                await self._frame.upstream.generate(
                    message.SerializeToString(),
                    asked_of(request, timeout_s_of(asked)),
                    answer.take,
                )
        answer.check()
        body = {
            "id": _ID + answer.started.request_id,
            "object": "chat.completion",
            "created": int(self._frame.clock.wall()),
            "model": answer.started.model,
            "system_fingerprint": fingerprint(answer.started),
            "choices": [
                chat_choice(
                    index,
                    answer.text(index),
                    answer.logprobs.get(index, []) if asked.logprobs else None,
                    end,
                    new_parser(index),
                )
                for index, end in enumerate(answer.ends)
            ],
            "usage": usage_of([answer.usage]),
        }
        return Response(encode(body), media_type="application/json")

    def _stream(
        self,
        request: Request,
        asked: ChatRequest,
        message: inference_pb2.GenerateRequest,
        chunks: ChatChunks,
        envelope: Envelope,
    ) -> EventStream:
        async def produce(emit: Emit) -> bytes:
            async def write(part: bytes) -> None:
                await emit(chunks.feed(part))

            with in_words(_words(asked, request)):
                await self._frame.upstream.generate(
                    message.SerializeToString(), asked_of(request, timeout_s_of(asked)), write
                )
            return envelope.last([chunks.usage], chunks.beside)

        return EventStream(self._frame, produce, error_event)

    def _envelope(self, asked: ChatRequest, request_id: str) -> Envelope:
        options = asked.stream_options
        return Envelope(
            kind=CHAT_KIND,
            id_=_ID + request_id,
            created=int(self._frame.clock.wall()),
            model=asked.model or "",
            tells_usage=bool(options and options.include_usage),
        )


def _words(asked: ChatRequest, request: Request) -> dict[str, str]:
    """What this request calls fields that have several names."""
    longest = "max_tokens" if asked.max_completion_tokens is None else "max_completion_tokens"
    return {
        "input": "messages",
        "constraint": constraint_name(asked, otherwise="tools"),
        "stop.max_tokens": longest,
        "output.logprobs": "top_logprobs",
        **key_words(request.headers),
    }
