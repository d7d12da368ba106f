"""The asynchronous client."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self, Unpack, final

import grpc
from google.protobuf.message import Message

from lepton.v1 import inference_pb2, types_pb2
from lepton_client.aio_streams import AsyncEventStream, AsyncTextStream
from lepton_client.aio_wire import AsyncWire
from lepton_client.channels import OPTIONS, ChannelPool
from lepton_client.options import Calls, ClientOptions
from lepton_client.requests import (
    Fields,
    Messages,
    count_request,
    generate_request,
    tokenize_request,
)

__all__ = ["AsyncClient"]


@final
class AsyncClient:
    """As `Client`, in one event loop.

    async with AsyncClient("127.0.0.1:50051") as client:
        async for piece in client.chat("What is 27 + 35?"):
            print(piece, end="")
    """

    def __init__(self, *routers: str, **options: Unpack[ClientOptions]) -> None:
        self._calls = Calls(routers, options, time.monotonic)
        credentials = options.get("credentials")

        def connect(address: str) -> grpc.aio.Channel:
            if credentials is None:
                return grpc.aio.insecure_channel(address, options=OPTIONS)
            return grpc.aio.secure_channel(address, credentials, options=OPTIONS)

        self._channels = ChannelPool(connect)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connections, and calls that run."""
        for channel in self._channels.drain():
            await channel.close()

    def generate(
        self, request: inference_pb2.GenerateRequest, *, timeout_s: float | None = None
    ) -> AsyncEventStream:
        """The events of one answer; every field of the interface can be used."""
        call = self._calls.generate(request, timeout_s)
        num_choices = max(1, request.sampling.n)
        return AsyncEventStream(call, AsyncWire(self._channels), self._abort, num_choices)

    def complete(
        self, text: str, *, timeout_s: float | None = None, **fields: Unpack[Fields]
    ) -> AsyncTextStream:
        """Goes on with a text."""
        request = generate_request(fields, text=text)
        return AsyncTextStream(self.generate(request, timeout_s=timeout_s))

    def chat(
        self, messages: Messages, *, timeout_s: float | None = None, **fields: Unpack[Fields]
    ) -> AsyncTextStream:
        """Answers a conversation: a text, or messages `{"role": "user", "content": "…"}`."""
        request = generate_request(fields, messages=messages)
        return AsyncTextStream(self.generate(request, timeout_s=timeout_s))

    async def tokenize(
        self, text: Messages, *, model: str = "", timeout_s: float | None = None
    ) -> inference_pb2.TokenizeResponse:
        """The token ids that a text, or a conversation, becomes."""
        request = tokenize_request(text, model)
        response: inference_pb2.TokenizeResponse = await self._unary("Tokenize", request, timeout_s)
        return response

    async def detokenize(
        self, token_ids: list[int], *, model: str = "", timeout_s: float | None = None
    ) -> str:
        """The text of token ids."""
        request = inference_pb2.DetokenizeRequest(model=model, token_ids=token_ids)
        return str((await self._unary("Detokenize", request, timeout_s)).text)

    async def count_tokens(
        self, text: Messages, *, model: str = "", timeout_s: float | None = None
    ) -> int:
        """How many tokens a text, or a conversation, becomes."""
        response = await self._unary("CountTokens", count_request(text, model), timeout_s)
        return int(response.num_tokens)

    async def list_models(self, *, timeout_s: float | None = None) -> list[types_pb2.ModelInfo]:
        """What can be asked now."""
        response = await self._unary("ListModels", inference_pb2.ListModelsRequest(), timeout_s)
        return list(response.models)

    async def _unary(self, method: str, request: Message, timeout_s: float | None) -> Any:
        core = self._calls.unary(method, request, timeout_s)
        return await AsyncWire(self._channels).value(core)

    async def _abort(self, request: inference_pb2.AbortRequest) -> None:
        await AsyncWire(self._channels).value(self._calls.abort(request))
