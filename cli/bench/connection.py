"""A bare connection to one address, for measuring.

The client of `clients/python` costs 3 µs more for each message, which a load of thousands of tokens per second would
show. Straight from workers it is the client that measures: following them by hand costs no less.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Final, Self, final

import grpc

from cli.client import checked_address, error_from
from common.rpc.channel import open_channel
from common.rpc.status import from_rpc_error
from lepton.v1 import inference_pb2, inference_pb2_grpc, types_pb2

__all__ = ["Connection"]

_MESSAGE_BYTES_MAX: Final = 64 << 20
_LIST_S_MAX: Final = 5.0


@final
class Connection:
    """Calls one router or worker over a connection of its own. Use as `async with`."""

    def __init__(self, address: str) -> None:
        self._address = checked_address(address)
        self._channel = open_channel(address, message_bytes_max=_MESSAGE_BYTES_MAX)
        self._stub = inference_pb2_grpc.InferenceServiceStub(self._channel)  # type: ignore[no-untyped-call]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._channel.close()

    def generate(
        self, request: inference_pb2.GenerateRequest, *, timeout_s: float | None = None
    ) -> _Events:
        """Begins a call. Leaving the iteration early needs `cancel`."""
        return _Events(self._stub.Generate(request, timeout=timeout_s), self._address)

    async def list_models(self) -> list[types_pb2.ModelInfo]:
        """What can be asked now."""
        try:
            answer = await self._stub.ListModels(
                inference_pb2.ListModelsRequest(), timeout=_LIST_S_MAX
            )
        except grpc.aio.AioRpcError as error:
            raise error_from(error, self._address) from None
        return list(answer.models)


@final
class _Events:
    """Those of one answer. Nobody asks for its ids."""

    trace_id = ""
    request_id = ""

    def __init__(self, call: Any, address: str) -> None:
        self._call = call
        self._address = address

    async def __aiter__(self) -> AsyncIterator[inference_pb2.Event]:
        begun = False
        try:
            async for response in self._call:
                begun = True
                for event in response.events:
                    yield event
        except grpc.aio.AioRpcError as error:
            if begun:
                raise from_rpc_error(error) from None
            raise error_from(error, self._address) from None

    async def cancel(self) -> None:
        self._call.cancel()
