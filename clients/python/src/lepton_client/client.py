"""The blocking client."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self, Unpack, final

import grpc
from google.protobuf.message import Message

from lepton.v1 import inference_pb2, types_pb2
from lepton_client.channels import OPTIONS, ChannelPool
from lepton_client.options import Calls, ClientOptions
from lepton_client.requests import (
    Fields,
    Messages,
    count_request,
    generate_request,
    tokenize_request,
)
from lepton_client.streams import EventStream, TextStream
from lepton_client.wire import Wire

__all__ = ["Client"]


@final
class Client:
    """A cluster, through one or more routers (`host:port`). May be used from many threads.

        with Client("127.0.0.1:50051") as client:
            for piece in client.chat("What is 27 + 35?"):
                print(piece, end="")

    Connects on first use. ValueError for an address or options that cannot be. Calls raise `LeptonError`;
    `timeout_s` of a call takes the place of the client's. Resources: `close` ends the connections.
    """

    def __init__(self, *routers: str, **options: Unpack[ClientOptions]) -> None:
        self._calls = Calls(routers, options, time.monotonic)
        credentials = options.get("credentials")

        def connect(address: str) -> grpc.Channel:
            if credentials is None:
                return grpc.insecure_channel(address, options=OPTIONS)
            return grpc.secure_channel(address, credentials, options=OPTIONS)

        self._channels = ChannelPool(connect)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections, and calls that run."""
        for channel in self._channels.drain():
            channel.close()

    def generate(
        self, request: inference_pb2.GenerateRequest, *, timeout_s: float | None = None
    ) -> EventStream:
        """The events of one answer; every field of the interface can be used."""
        call = self._calls.generate(request, timeout_s)
        num_choices = max(1, request.sampling.n)
        return EventStream(call, Wire(self._channels), self._abort, num_choices)

    def complete(
        self, text: str, *, timeout_s: float | None = None, **fields: Unpack[Fields]
    ) -> TextStream:
        """Goes on with a text."""
        request = generate_request(fields, text=text)
        return TextStream(self.generate(request, timeout_s=timeout_s))

    def chat(
        self, messages: Messages, *, timeout_s: float | None = None, **fields: Unpack[Fields]
    ) -> TextStream:
        """Answers a conversation: a text, or messages `{"role": "user", "content": "…"}`."""
        request = generate_request(fields, messages=messages)
        return TextStream(self.generate(request, timeout_s=timeout_s))

    def tokenize(
        self, text: Messages, *, model: str = "", timeout_s: float | None = None
    ) -> inference_pb2.TokenizeResponse:
        """The token ids that a text, or a conversation, becomes."""
        request = tokenize_request(text, model)
        response: inference_pb2.TokenizeResponse = self._unary("Tokenize", request, timeout_s)
        return response

    def detokenize(
        self, token_ids: list[int], *, model: str = "", timeout_s: float | None = None
    ) -> str:
        """The text of token ids."""
        request = inference_pb2.DetokenizeRequest(model=model, token_ids=token_ids)
        return str(self._unary("Detokenize", request, timeout_s).text)

    def count_tokens(
        self, text: Messages, *, model: str = "", timeout_s: float | None = None
    ) -> int:
        """How many tokens a text, or a conversation, becomes."""
        return int(self._unary("CountTokens", count_request(text, model), timeout_s).num_tokens)

    def list_models(self, *, timeout_s: float | None = None) -> list[types_pb2.ModelInfo]:
        """What can be asked now."""
        response = self._unary("ListModels", inference_pb2.ListModelsRequest(), timeout_s)
        return list(response.models)

    def _unary(self, method: str, request: Message, timeout_s: float | None) -> Any:
        return Wire(self._channels).value(self._calls.unary(method, request, timeout_s))

    def _abort(self, request: inference_pb2.AbortRequest) -> None:
        Wire(self._channels).value(self._calls.abort(request))
