"""The ledger client: asks, and writes down what comes. Never retries, never repairs."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any, final

from chaos.record import Received, Record
from chaos.wires import DirectWire, RelayedWire, Wire
from common.clock import Clock
from lepton.v1 import inference_pb2

__all__ = ["LedgerClient"]


@final
class LedgerClient:
    """Asks one cluster through one router, or `direct`ly its workers, and keeps a record of every request.

    Resources: `close` ends the connections. Cancelling `ask` cancels the call, as a client that goes away does.
    """

    def __init__(self, address: str, clock: Clock, *, direct: bool = False) -> None:
        self._relayed = RelayedWire(address)
        self._direct = DirectWire(address) if direct else None
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
        return self._relayed.open(request, deadline_s=deadline_s)

    async def _read(self, record: Record, cancel_after: int | None) -> None:
        wire: Wire = self._direct or self._relayed
        async with aclosing(wire.events(record)) as events:
            async for event in events:
                record.received.append(Received(self._clock.now(), event))
                if cancel_after is not None and len(record.received) >= cancel_after:
                    record.cancelled_at = self._clock.now()
                    record.code, record.reason = "CANCELLED", "CANCELLED_HERE"
                    return

    async def close(self) -> None:
        """Ends the connections, and calls that still run."""
        await self._relayed.close()
        if self._direct is not None:
            await self._direct.close()
