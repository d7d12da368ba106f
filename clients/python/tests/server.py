"""A server on loopback that answers with words, and may fall silent after the first one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from clients.python.tests.world import answer
from lepton.v1 import inference_pb2, inference_pb2_grpc, types_pb2


class Server(inference_pb2_grpc.InferenceServiceServicer):
    """`left` is set when a stream was given up, `aborted` when a call was ended by token."""

    def __init__(self) -> None:
        self.address = ""
        self.holds = False
        self.num_streams = 0
        self.left, self.aborted = threading.Event(), threading.Event()

    def Generate(self, request: Any, context: Any) -> Iterator[inference_pb2.GenerateResponse]:  # noqa: N802
        self.num_streams += 1
        context.send_initial_metadata((("lepton-trace-id", "4bf9"),))
        context.add_callback(lambda: context.code() or self.left.set())
        first_seq = request.continuation.next_seq
        holds = self.holds and not first_seq
        token = "t-1" if request.resumable_ms else ""
        for event in answer(4, token=token)[first_seq:]:
            yield inference_pb2.GenerateResponse(events=[event])
            if holds and event.seq == 1:
                self.left.wait(20)
                return

    def Pick(self, request: Any, context: Any) -> inference_pb2.PickResponse:  # noqa: N802
        return inference_pb2.PickResponse(worker_id="w1", address=self.address, ticket="t")

    def Abort(self, request: Any, context: Any) -> inference_pb2.AbortResponse:  # noqa: N802
        assert request.resume_token == "t-1"
        self.aborted.set()
        return inference_pb2.AbortResponse()

    def ListModels(self, request: Any, context: Any) -> inference_pb2.ListModelsResponse:  # noqa: N802
        if self.holds:
            self.left.wait(20)
        return inference_pb2.ListModelsResponse(models=[types_pb2.ModelInfo(model="tiny")])

    def Tokenize(self, request: Any, context: Any) -> inference_pb2.TokenizeResponse:  # noqa: N802
        return inference_pb2.TokenizeResponse(token_ids=request.text.encode())

    def CountTokens(self, request: Any, context: Any) -> inference_pb2.CountTokensResponse:  # noqa: N802
        return inference_pb2.CountTokensResponse(num_tokens=len(request.text))


@contextmanager
def serving(credentials: grpc.ServerCredentials | None = None) -> Iterator[Server]:
    """Until the end of the block."""
    server = grpc.server(ThreadPoolExecutor(8))
    servicer = Server()
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(servicer, server)
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    servicer.address = f"127.0.0.1:{port}"
    server.start()
    try:
        yield servicer
    finally:
        servicer.left.set()
        server.stop(0).wait()
