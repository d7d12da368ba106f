"""A small client over the generated stubs; errors come out as `LeptonError`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Final, Self, final

import grpc

from common.errors import Conflict, LeptonError, Reason, Unavailable
from common.rpc.channel import open_channel
from common.rpc.metadata import REQUEST_ID_KEY, TRACE_ID_KEY
from common.rpc.status import DETAILS_KEY, from_rpc_error
from lepton.v1 import inference_pb2, inference_pb2_grpc, types_pb2

__all__ = ["Answer", "Client", "checked_address", "error_from"]

_MESSAGE_BYTES_MAX: Final = 64 << 20
_LIST_S_MAX: Final = 5.0
_TOKENIZE_S_MAX: Final = 10.0
_HTTP1: Final = "http1.x server"
"""What gRPC says of a port like that of REST; with other words the error says less."""
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\s/]+):\d{1,5}")


@final
class Client:
    """Calls one router or worker. Use as `async with`."""

    def __init__(self, address: str) -> None:
        self.address = checked_address(address)
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
        self,
        request: inference_pb2.GenerateRequest,
        *,
        timeout_s: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """Begins a call. Leaving the iteration early needs `Answer.cancel`."""
        call = self._stub.Generate(request, timeout=timeout_s, metadata=tuple(metadata))
        return Answer(call, self.address)

    async def pick(
        self,
        asked: inference_pb2.PickRequest,
        *,
        timeout_s: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> inference_pb2.PickResponse:
        """Where to go with a Generate."""
        try:
            picked: inference_pb2.PickResponse = await self._stub.Pick(
                asked, timeout=timeout_s, metadata=tuple(metadata)
            )
        except grpc.aio.AioRpcError as error:
            raise error_from(error, self.address) from None
        return picked

    async def list_models(self) -> list[types_pb2.ModelInfo]:
        """What can be asked now."""
        try:
            answer = await self._stub.ListModels(
                inference_pb2.ListModelsRequest(), timeout=_LIST_S_MAX
            )
        except grpc.aio.AioRpcError as error:
            raise error_from(error, self.address) from None
        return list(answer.models)

    async def tokenize(self, text: str, *, model: str = "") -> list[int]:
        """The token ids of `text` for a model."""
        try:
            answer = await self._stub.Tokenize(
                inference_pb2.TokenizeRequest(model=model, text=text), timeout=_TOKENIZE_S_MAX
            )
        except grpc.aio.AioRpcError as error:
            raise error_from(error, self.address) from None
        return list(answer.token_ids)


@final
class Answer:
    """One Generate: iterate over its events. `trace_id` and `request_id` are known from the first one on."""

    def __init__(
        self,
        call: grpc.aio.UnaryStreamCall[
            inference_pb2.GenerateRequest, inference_pb2.GenerateResponse
        ],
        address: str,
    ) -> None:
        self._call = call
        self._address = address
        self.trace_id = ""
        self.request_id = ""

    async def __aiter__(self) -> AsyncIterator[inference_pb2.Event]:
        begun = False
        try:
            async for response in self._call:
                if not begun:
                    begun = True
                    await self._read_metadata()
                for event in response.events:
                    yield event
        except grpc.aio.AioRpcError as error:
            if begun:
                raise from_rpc_error(error) from None
            # Either may be missing: the first when the call ended at once, the second when a proxy refused it.
            self._take((*(error.trailing_metadata() or ()), *(error.initial_metadata() or ())))
            raise error_from(error, self._address) from None

    def cancel(self) -> None:
        """Ends the call; the worker stops computing."""
        self._call.cancel()

    async def _read_metadata(self) -> None:
        self._take(await self._call.initial_metadata() or ())

    def _take(self, metadata: object) -> None:
        found = dict(metadata)  # type: ignore[call-overload]  # grpc's Metadata is a sequence of pairs
        self.trace_id = str(found.get(TRACE_ID_KEY, ""))
        self.request_id = str(found.get(REQUEST_ID_KEY, ""))


def checked_address(address: str) -> str:
    """`address`, or `Conflict(SETTING_INVALID)` when it is not one."""
    if not _ADDRESS.fullmatch(address):
        raise Conflict(
            f"{address!r} is not an address; write HOST:PORT, for example 127.0.0.1:50051",
            reason=Reason.SETTING_INVALID,
        )
    return address


def error_from(error: grpc.aio.AioRpcError, address: str) -> LeptonError:
    """The error that the peer meant; `Unavailable(UNREACHABLE)` when there was no peer."""
    meant = from_rpc_error(error)
    without_details = DETAILS_KEY not in dict(error.trailing_metadata() or ())
    if isinstance(meant, Unavailable) and without_details:
        says = f"nothing answers at {address}"
        if _HTTP1 in (error.details() or ""):
            says = f"{address} speaks HTTP/1.1; this wants the gRPC port (50051 unless you chose another)"
        return Unavailable(says, reason=Reason.UNREACHABLE)
    return meant
