"""How the ledger client reaches a cluster: through its routers, or in direct mode with the SDK's own failover."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final, Protocol, final

import grpc

from chaos.record import Record
from common.rpc.channel import channel_options
from common.rpc.metadata import FINISHED_KEY, REQUEST_ID_KEY
from common.rpc.status import from_rpc_error
from lepton.v1 import inference_pb2
from lepton_client import AsyncClient, LeptonError

__all__ = ["DirectWire", "RelayedWire", "Wire"]

_GENERATE: Final = "/lepton.v1.InferenceService/Generate"
_MESSAGE_BYTES_MAX: Final = 64 << 20


class Wire(Protocol):
    """Used on one event loop."""

    def events(self, record: Record) -> AsyncGenerator[inference_pb2.Event, None]:
        """Those of one Generate, as they come; closing the generator gives the call up. Its end goes into `record`."""
        ...

    async def close(self) -> None:
        """Ends the connections, and calls that still run."""
        ...


@final
class RelayedWire:
    """gRPC as it is: nothing is tried again."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(
            address, options=channel_options(message_bytes_max=_MESSAGE_BYTES_MAX)
        )
        self._generate: Any = self._channel.unary_stream(_GENERATE)

    def open(self, request: inference_pb2.GenerateRequest, *, deadline_s: float) -> Any:
        """A call that nobody reads, and of which there is no record; cancel it."""
        return self._generate(request.SerializeToString(), timeout=deadline_s)

    async def events(self, record: Record) -> AsyncGenerator[inference_pb2.Event, None]:
        """See `Wire`."""
        payload = record.request.SerializeToString()
        call = self._generate(
            payload, timeout=record.deadline_s, metadata=((REQUEST_ID_KEY, record.name),)
        )
        try:
            async for message in call:
                for event in inference_pb2.GenerateResponse.FromString(message).events:
                    yield event
            trailing = dict(await call.trailing_metadata() or ())
            record.finished_twice = trailing.get(FINISHED_KEY, b"")
            record.code = "OK"
        except grpc.aio.AioRpcError as error:
            record.code = error.code().name
            record.reason = from_rpc_error(error).reason.value
            record.message = error.details() or ""
        finally:
            call.cancel()  # nothing happens when it is over

    async def close(self) -> None:
        """See `Wire`."""
        await self._channel.close()


@final
class DirectWire:
    """The Python client in direct mode: it asks a router where to go, and moves a stream that has lost its worker."""

    def __init__(self, address: str) -> None:
        self._client = AsyncClient(address, direct=True)

    async def events(self, record: Record) -> AsyncGenerator[inference_pb2.Event, None]:
        """See `Wire`."""
        try:
            async with (
                self._client.generate(record.request, timeout_s=record.deadline_s) as stream,
                aclosing(aiter(stream)) as events,
            ):
                async for event in events:
                    yield event
            record.code = "OK"
        except LeptonError as error:
            record.code, record.reason, record.message = error.code, error.reason, error.message

    async def close(self) -> None:
        """See `Wire`."""
        await self._client.close()
