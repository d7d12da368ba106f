"""The simulation's messages for the router's core: a request is "index:start", a message "first size"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from common.request.stream_fault import StreamFault

__all__ = ["SimCodec"]


@final
class SimCodec:
    """`router.core.ports.GenerateCodec`."""

    def new_record(self, payload: bytes, *, is_resumed: bool) -> SimRecord:
        return SimRecord(payload)

    def fingerprint(self, payload: bytes) -> bytes:
        return payload.partition(b":")[0]

    def has_output(self, message: bytes) -> bool:
        return True

    def with_token_ids(self, payload: bytes) -> bytes:
        return payload

    def without_token_ids(self, message: bytes) -> bytes:
        return message


@final
class SimRecord:
    """`router.core.ports.StreamRecord`: how far the client is."""

    finished = None

    def __init__(self, payload: bytes) -> None:
        self._index = payload.partition(b":")[0]
        self._next = 0

    def check(self, message: bytes) -> None:
        first, size = map(int, message.split())
        if first != self._next:
            raise StreamFault(
                "repeated" if first < self._next else "gap", f"{first} after {self._next}"
            )
        self._next = first + size

    def take(self, messages: Sequence[bytes]) -> None:
        pass

    def continue_request(self, *, revision: str, attempt: int, from_worker_id: str) -> bytes:
        return b"%s:%d" % (self._index, self._next)

    def abort_request(self) -> bytes:
        return b""
