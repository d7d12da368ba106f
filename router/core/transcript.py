"""What one stream has told its client: raw bytes, read only when they are many or when the worker is lost."""

from __future__ import annotations

from typing import Final, final

from common.errors import Internal, Reason
from common.request.stream_fault import StreamFault
from router.core.ports import StreamRecord

__all__ = ["Transcript"]

_MESSAGE_BYTES: Final = 48
"""What Python adds to each: the object's head, and its place in the list."""


@final
class Transcript:
    """Keeps messages as they came; beyond `bytes_max` bytes of memory they are folded into `record`, which keeps little
    more than the token ids. A message that is not the one that is due does not get in.

    Owned by one call. `add` is all that a message costs.
    """

    __slots__ = (
        "_bytes_max",
        "_check",
        "_messages",
        "_num_folded",
        "_record",
        "_room",
        "_torn",
        "faults",
    )

    def __init__(self, record: StreamRecord, *, bytes_max: int) -> None:
        self._record = record
        self._check = record.check
        self._bytes_max = bytes_max
        self._room = bytes_max
        self._messages: list[bytes] = []
        self._num_folded = 0
        self._torn: StreamFault | None = None
        """Why what the client has is no stream."""
        self.faults: list[str] = []
        """How workers broke the rules of the stream, as far as that was seen: `StreamFault.kind`."""

    def __repr__(self) -> str:
        kept = self._bytes_max - self._room
        return (
            f"Transcript({self.num_messages} messages, {kept} bytes unread, faults={self.faults})"
        )

    @property
    def num_messages(self) -> int:
        """Messages added so far."""
        return self._num_folded + len(self._messages)

    def add(self, message: bytes) -> None:
        """Notes a message for the client.

        Raises `Internal(STREAM_FAULT)` when the worker broke the rules of the stream: with this message, which then is
        not for the client and the stream can go on elsewhere, or with an earlier one that was read only now, and it
        cannot.
        """
        try:
            self._check(message)
        except StreamFault as fault:
            self.faults.append(fault.kind)
            raise _told(fault) from fault
        self._messages.append(message)
        self._room -= len(message) + _MESSAGE_BYTES
        if self._room < 0:
            self._fold()

    def read(self) -> StreamRecord:
        """Everything so far, folded. Raises `Internal(STREAM_FAULT)` when it is no stream."""
        self._fold()
        return self._record

    def _fold(self) -> None:
        if self._torn is not None:
            raise _told(self._torn)
        messages, self._messages, self._room = self._messages, [], self._bytes_max
        self._num_folded += len(messages)
        try:
            self._record.take(messages)
        except StreamFault as fault:
            self._torn = fault
            self.faults.append(fault.kind)
            raise _told(fault) from fault


def _told(fault: StreamFault) -> Internal:
    return Internal(f"the worker broke the rules of a stream: {fault}", reason=Reason.STREAM_FAULT)
