"""`POST /v1/completions`: one call of the cluster per prompt, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, final

from starlette.requests import Request
from starlette.responses import Response

from common.errors import InvalidRequest, LeptonError, Reason
from gateway.frame import Frame
from gateway.http.body import read_json
from gateway.http.call import call_of
from gateway.http.connected import while_connected
from gateway.http.event_stream import Emit, EventStream
from gateway.openai.ask import asked_of, in_words
from gateway.openai.chunks import Envelope, encode, error_event, fingerprint
from gateway.openai.collected import Collected
from gateway.openai.constraints import constraint_name
from gateway.openai.fields import CompletionRequest
from gateway.openai.idempotency import key_words, with_key
from gateway.openai.place import place_of
from gateway.openai.read import read
from gateway.openai.text_answer import TEXT_KIND, TextChunks, text_choice
from gateway.openai.to_generate import completion_to_generate, prompts_of, timeout_s_of
from gateway.openai.usage import usage_of
from gateway.ports import Write
from lepton.v1 import inference_pb2

__all__ = ["TextDoor"]

_ID: Final = "cmpl-"


@final
class TextDoor:
    """Answers completions."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    async def __call__(self, request: Request) -> Response:
        """Raises `LeptonError` before anything of an answer was sent."""
        settings = self._frame.settings
        asked = read(await read_json(request, settings), CompletionRequest)
        asked = with_key(asked, request.headers)
        place = place_of(request.headers.get("last-event-id", ""))
        request_id = place.request_id if place else call_of(request.scope).request_id
        with in_words(_words(asked, request)):
            prompts = prompts_of(asked, settings.prompts_max)
            messages = [
                completion_to_generate(asked, prompt, _id_of(request_id, index))
                for index, prompt in enumerate(prompts)
            ]
            if len(messages) > 1:
                _check_alone(messages[0])
        if not asked.stream:
            return await self._whole(request, asked, messages)
        envelope = self._envelope(asked, request_id)
        if place is not None:
            messages[0].resume.resume_token = place.token
            messages[0].resume.after_seq = place.seq
        num_choices = messages[0].sampling.n or 1
        chunks = [
            TextChunks(
                envelope,
                request_id=request_id,
                place=place,
                first_index=index * num_choices,
                tells_logprobs=asked.logprobs is not None,
            )
            for index in range(len(messages))
        ]
        return self._stream(request, asked, messages, chunks, envelope)

    async def _whole(
        self,
        request: Request,
        asked: CompletionRequest,
        messages: Sequence[inference_pb2.GenerateRequest],
    ) -> Response:
        answers = [Collected() for _ in messages]
        async with while_connected(request.receive):
            await self._ask(request, asked, messages, [answer.take for answer in answers])
        for answer in answers:
            answer.check()
        first = answers[0].started
        ends = [(answer, index, end) for answer in answers for index, end in enumerate(answer.ends)]
        body = {
            "id": _ID
            + (first.request_id if len(messages) == 1 else call_of(request.scope).request_id),
            "object": TEXT_KIND,
            "created": int(self._frame.clock.wall()),
            "model": first.model,
            "system_fingerprint": fingerprint(first),
            "choices": [
                text_choice(
                    number,
                    answer.text(index),
                    None if asked.logprobs is None else answer.logprobs.get(index, []),
                    end,
                )
                for number, (answer, index, end) in enumerate(ends)
            ],
            "usage": usage_of(answer.usage for answer in answers),
        }
        return Response(encode(body), media_type="application/json")

    def _stream(
        self,
        request: Request,
        asked: CompletionRequest,
        messages: Sequence[inference_pb2.GenerateRequest],
        chunks: Sequence[TextChunks],
        envelope: Envelope,
    ) -> EventStream:
        async def produce(emit: Emit) -> bytes:
            def writing(own: TextChunks) -> Write:
                async def write(part: bytes) -> None:
                    await emit(own.feed(part))

                return write

            await self._ask(request, asked, messages, [writing(own) for own in chunks])
            return envelope.last(own.usage for own in chunks)

        return EventStream(self._frame, produce, error_event)

    async def _ask(
        self,
        request: Request,
        asked: CompletionRequest,
        messages: Sequence[inference_pb2.GenerateRequest],
        writes: Sequence[Write],
    ) -> None:
        """All calls at once; the first error ends the others."""
        how = asked_of(request, timeout_s_of(asked))
        calls = [
            self._frame.upstream.generate(message.SerializeToString(), how, write)
            for message, write in zip(messages, writes, strict=True)
        ]
        with in_words(_words(asked, request)):
            if len(calls) == 1:
                await calls[0]
                return
            try:
                async with asyncio.TaskGroup() as group:
                    for call in calls:
                        group.create_task(call)
            except BaseExceptionGroup as errors:
                raise _first(errors) from None

    def _envelope(self, asked: CompletionRequest, request_id: str) -> Envelope:
        options = asked.stream_options
        return Envelope(
            kind=TEXT_KIND,
            id_=_ID + request_id,
            created=int(self._frame.clock.wall()),
            model=asked.model or "",
            tells_usage=bool(options and options.include_usage),
        )


def _id_of(request_id: str, index: int) -> str:
    """Calls of one request have names of their own, as long as one may be."""
    if not index:
        return request_id
    mark = f":{index}"
    return request_id[: 128 - len(mark)] + mark


def _check_alone(message: inference_pb2.GenerateRequest) -> None:
    for name in ("resumable_ms", "idempotency_key"):
        if getattr(message, name):
            raise InvalidRequest(
                f"{name} is for one call, and several prompts are several; send one prompt",
                reason=Reason.FIELDS_CONTRADICT,
                field=name,
            )


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        typed = [one for one in found.exceptions if isinstance(one, LeptonError)]
        found = typed[0] if typed else found.exceptions[0]
    return found


def _words(asked: CompletionRequest, request: Request) -> dict[str, str]:
    """What this request calls fields that have several names."""
    return {
        "input": "prompt",
        "constraint": constraint_name(asked),
        "output.logprobs": "logprobs",
        **key_words(request.headers),
    }
