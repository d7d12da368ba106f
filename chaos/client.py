"""The ledger client: asks, and writes down what comes. Never retries, never repairs."""

from __future__ import annotations

import asyncio
from typing import Any, Final, final

import grpc

from chaos.record import Received, Record
from common.clock import Clock
from common.rpc.channel import channel_options
from common.rpc.metadata import FINISHED_KEY, REQUEST_ID_KEY
from common.rpc.status import from_rpc_error
from lepton.v1 import inference_pb2

__all__ = ["LedgerClient"]

_GENERATE: Final = "/lepton.v1.InferenceService/Generate"
_MESSAGE_BYTES_MAX: Final = 64 << 20


@final
class LedgerClient:
    """Asks one cluster through one channel (retries off) and keeps a record of every request.

    Resources: `close` ends the channel. Cancelling `ask` cancels the call, as a client that goes away does.
    """

    def __init__(self, address: str, clock: Clock) -> None:
        self._channel = grpc.aio.insecure_channel(
            address, options=channel_options(message_bytes_max=_MESSAGE_BYTES_MAX)
        )
        self._generate: Any = self._channel.unary_stream(_GENERATE)
        self._clock = clock
        self._running = 0
        self.records: list[Record] = []

    @property
    def in_flight(self) -> int:
        """Requests that were sent and have not ended."""
        return self._running

    def record(
        self, request: inference_pb2.GenerateRequest, *, kind: str, deadline_s: float
    ) -> Record:
        """An empty record of a request that is about to be sent with `run`."""
        record = Record(
            name=f"{kind}-{len(self.records)}",
            kind=kind,
            request=request,
            sent_at=self._clock.now(),
            deadline_s=deadline_s,
        )
        self.records.append(record)
        return record

    async def run(self, record: Record, *, cancel_after: int | None = None) -> None:
        """One Generate to its end. `cancel_after`: gives up by itself after so many events."""
        self._running += 1
        try:
            await self._read(record, cancel_after)
        except asyncio.CancelledError:
            record.code, record.reason = "CANCELLED", "CANCELLED_HERE"
            record.cancelled_at = record.cancelled_at or self._clock.now()
            raise
        finally:
            record.ended_at = self._clock.now()
            self._running -= 1

    async def ask(
        self,
        request: inference_pb2.GenerateRequest,
        *,
        kind: str,
        deadline_s: float,
        cancel_after: int | None = None,
    ) -> Record:
        """`record` and `run` in one."""
        record = self.record(request, kind=kind, deadline_s=deadline_s)
        await self.run(record, cancel_after=cancel_after)
        return record

    def open(self, request: inference_pb2.GenerateRequest, *, deadline_s: float) -> Any:
        """A call that nobody reads, and of which there is no record; cancel it."""
        return self._generate(request.SerializeToString(), timeout=deadline_s)

    async def _read(self, record: Record, cancel_after: int | None) -> None:
        payload = record.request.SerializeToString()
        call = self._generate(
            payload, timeout=record.deadline_s, metadata=((REQUEST_ID_KEY, record.name),)
        )
        try:
            async for message in call:
                now = self._clock.now()
                response = inference_pb2.GenerateResponse.FromString(message)
                record.received += (Received(now, event) for event in response.events)
                if cancel_after is not None and len(record.received) >= cancel_after:
                    record.cancelled_at = self._clock.now()
                    call.cancel()
                    cancel_after = None
            trailing = dict(await call.trailing_metadata() or ())
            record.finished_twice = trailing.get(FINISHED_KEY)
            record.code = "OK"
        except grpc.aio.AioRpcError as error:
            record.code = error.code().name
            record.reason = from_rpc_error(error).reason.value
            record.message = error.details() or ""
        except asyncio.CancelledError:
            if record.cancelled_at is None:
                call.cancel()
                raise
            record.code, record.reason = "CANCELLED", "CANCELLED_HERE"

    async def close(self) -> None:
        """Ends the channel, and calls that still run."""
        await self._channel.close()
