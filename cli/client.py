"""How commands ask a cluster: the Python client of `clients/python`, with errors as `LeptonError` of this process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from types import TracebackType
from typing import Final, Self, Unpack, final

import grpc

import lepton_client
from common.errors import Conflict, LeptonError, Reason, Unavailable
from common.rpc.status import DETAILS_KEY, error_of, from_rpc_error
from lepton.v1 import inference_pb2, types_pb2

__all__ = ["Answer", "Client", "checked_address", "error_from", "unreachable"]

_LIST_S_MAX: Final = 5.0
_TOKENIZE_S_MAX: Final = 10.0
_HTTP1: Final = "http1.x server"
"""What gRPC says of a port like that of REST; with other words the error says less."""


@final
class Client:
    """Calls routers, or one worker. Use as `async with`. Options as those of `lepton_client.AsyncClient`, but that
    nothing is asked for again unless `retry` says so: who waits at a terminal is told at once.
    """

    def __init__(self, *addresses: str, **options: Unpack[lepton_client.ClientOptions]) -> None:
        self._addresses = tuple(map(checked_address, addresses))
        options.setdefault("retry", False)
        self._client = lepton_client.AsyncClient(*addresses, **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.close()

    def generate(
        self, request: inference_pb2.GenerateRequest, *, timeout_s: float | None = None
    ) -> Answer:
        """Begins a call. Leaving the iteration early needs `Answer.cancel`."""
        return Answer(self._client.generate(request, timeout_s=timeout_s), self._addresses)

    async def list_models(self) -> list[types_pb2.ModelInfo]:
        """What can be asked now."""
        with _told(self._addresses):
            return await self._client.list_models(timeout_s=_LIST_S_MAX)

    async def tokenize(self, text: str, *, model: str = "") -> list[int]:
        """The token ids of `text` for a model."""
        with _told(self._addresses):
            told = await self._client.tokenize(text, model=model, timeout_s=_TOKENIZE_S_MAX)
        return list(told.token_ids)


@final
class Answer:
    """One Generate: iterate over its events. `trace_id` and `request_id` are known from the first one on."""

    def __init__(self, stream: lepton_client.AsyncEventStream, addresses: tuple[str, ...]) -> None:
        self._stream = stream
        self._addresses = addresses

    @property
    def trace_id(self) -> str:
        """Of the connection that brought the last event."""
        return self._stream.trace_id

    @property
    def request_id(self) -> str:
        """Likewise."""
        return self._stream.request_id

    async def __aiter__(self) -> AsyncIterator[inference_pb2.Event]:
        with _told(self._addresses):
            async with aclosing(aiter(self._stream)) as events:
                async for event in events:
                    yield event

    async def cancel(self) -> None:
        """Ends the call, unless it has ended; the worker stops computing."""
        await self._stream.cancel()


@contextlib.contextmanager
def _told(addresses: tuple[str, ...]) -> Iterator[None]:
    try:
        yield
    except lepton_client.LeptonError as error:
        raise _meant_by(error, addresses) from None


def _meant_by(error: lepton_client.LeptonError, addresses: tuple[str, ...]) -> LeptonError:
    """The same error, as commands report them."""
    if error.reason == Reason.UNREACHABLE:
        return unreachable(*addresses, details=error.message)
    return error_of(
        grpc.StatusCode[error.code],
        error.message,
        reason=error.reason,
        field=error.field,
        retry_after_s=error.retry_after,
    )


def checked_address(address: str) -> str:
    """`address`, or `Conflict(SETTING_INVALID)` when it is not one."""
    try:
        lepton_client.check_address(address)
    except ValueError as error:
        raise Conflict(str(error), reason=Reason.SETTING_INVALID) from None
    return address


def unreachable(*addresses: str, details: str = "") -> Unavailable:
    """Nobody was there, or somebody else; `details` is what gRPC said."""
    where = ", ".join(addresses)
    says = f"nothing answers at {where}"
    if _HTTP1 in details:
        says = f"{where} speaks HTTP/1.1; this wants the gRPC port (50051 unless you chose another)"
    return Unavailable(says, reason=Reason.UNREACHABLE)


def error_from(error: grpc.aio.AioRpcError, address: str) -> LeptonError:
    """What the peer of a raw stub meant: `Unavailable(UNREACHABLE)` when there was no peer."""
    meant = from_rpc_error(error)
    without_details = DETAILS_KEY not in dict(error.trailing_metadata() or ())
    if isinstance(meant, Unavailable) and without_details:
        return unreachable(address, details=error.details() or "")
    return meant
