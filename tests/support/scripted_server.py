"""An InferenceService on loopback that answers as a test says, in threads of its own: for clients that run their own
event loop.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from common.errors import LeptonError
from common.rpc.metadata import REQUEST_ID_KEY, TRACE_ID_KEY
from common.rpc.status import DETAILS_KEY, codes_of, details_of
from lepton.v1 import inference_pb2, inference_pb2_grpc, types_pb2

__all__ = ["TRACE_ID", "ScriptedServer", "scripted_server"]

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"

MODEL = types_pb2.ModelInfo(
    model="tiny",
    revision="0123456789abcdef" * 2,
    context_length=512,
    vocab_size=768,
    tasks=["generate"],
    num_workers=2,
)


@dataclass(slots=True)
class ScriptedServer(inference_pb2_grpc.InferenceServiceServicer):
    """What it answers; change it between calls."""

    address: str = ""
    words: tuple[str, ...] = ("Hello", " wor", "ld", ".")
    choices: int = 1
    error: LeptonError | None = None
    error_after: int = 0
    """Words that come before the error."""
    hold: threading.Event | None = None
    """After the first word it waits for this, or for the end of the call."""
    models: list[types_pb2.ModelInfo] = field(default_factory=lambda: [MODEL])
    requests: list[inference_pb2.GenerateRequest] = field(default_factory=list)
    picks: list[inference_pb2.PickRequest] = field(default_factory=list)
    begun: threading.Event = field(default_factory=threading.Event)

    def ListModels(  # noqa: N802 - the name in the proto
        self, request: inference_pb2.ListModelsRequest, context: grpc.ServicerContext
    ) -> inference_pb2.ListModelsResponse:
        return inference_pb2.ListModelsResponse(models=self.models)

    def Tokenize(  # noqa: N802 - the name in the proto
        self, request: inference_pb2.TokenizeRequest, context: grpc.ServicerContext
    ) -> inference_pb2.TokenizeResponse:
        return inference_pb2.TokenizeResponse(token_ids=request.text.encode())

    def Pick(  # noqa: N802 - the name in the proto
        self, request: inference_pb2.PickRequest, context: grpc.ServicerContext
    ) -> inference_pb2.PickResponse:
        self.picks.append(request)
        return inference_pb2.PickResponse(
            worker_id="w1",
            address=self.address,
            model=MODEL.model,
            revision=MODEL.revision,
            ticket=f"ticket-{len(self.picks)}",
            ticket_ms=1000,
        )

    def Generate(  # noqa: N802 - the name in the proto
        self, request: inference_pb2.GenerateRequest, context: grpc.ServicerContext
    ) -> Iterator[inference_pb2.GenerateResponse]:
        self.requests.append(request)
        context.send_initial_metadata(((TRACE_ID_KEY, TRACE_ID), (REQUEST_ID_KEY, "r-1")))
        if self.error is not None and self.error_after == 0:
            self._fail(context)
        resume = request.resume
        after_seq = resume.after_seq if resume.HasField("after_seq") else -1
        token = "t-1" if request.resumable_ms else ""
        events = _events(self.words, self.choices, token)
        for number, event in enumerate(events):
            if event.seq <= after_seq:
                continue
            if self.error is not None and number > self.error_after:
                self._fail(context)
            yield inference_pb2.GenerateResponse(events=[event])
            if number == 1 and self.hold is not None:
                self.begun.set()
                while context.is_active() and not self.hold.wait(0.01):
                    pass

    def _fail(self, context: grpc.ServicerContext) -> None:
        assert self.error is not None
        context.set_trailing_metadata(((DETAILS_KEY, details_of(self.error)),))
        context.abort(codes_of(self.error).grpc, self.error.message)


@contextmanager
def scripted_server(**script: Any) -> Iterator[ScriptedServer]:
    """A server on a free port until the end of the block."""
    server = grpc.server(ThreadPoolExecutor(8))
    servicer = ScriptedServer(**script)
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(servicer, server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield servicer
    finally:
        server.stop(0).wait()


def _events(
    words: tuple[str, ...], choices: int, resume_token: str
) -> Iterator[inference_pb2.Event]:
    seq = 0
    yield inference_pb2.Event(
        seq=seq,
        started=inference_pb2.Started(
            request_id="r-1",
            worker_id="w1",
            model="tiny",
            seed=7,
            prompt_tokens=5,
            resume_token=resume_token,
        ),
    )
    for number, word in enumerate(words):
        for index in range(choices):
            seq += 1
            delta = inference_pb2.Delta(index=index, text=word, token_ids=[number + 10])
            yield inference_pb2.Event(seq=seq, delta=delta)
    end = inference_pb2.ChoiceEnd(reason=types_pb2.FINISH_REASON_STOP)
    yield inference_pb2.Event(
        seq=seq + 1,
        finished=inference_pb2.Finished(
            usage=types_pb2.Usage(prompt_tokens=5, completion_tokens=len(words) * choices),
            choices=[end] * choices,
        ),
    )
