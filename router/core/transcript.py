"""What one stream has told its client: raw bytes, read only when they are many or when the worker is lost."""

from __future__ import annotations

from typing import Final, final

from common.errors import Internal
from common.request.stream_fault import StreamFault
from router.core.ports import StreamRecord

__all__ = ["Transcript"]

_MESSAGE_BYTES: Final = 48
"""What Python adds to each: the object's head, and its place in the list."""


@final
class Transcript:
    """Keeps messages as they came; beyond `bytes_max` bytes of memory they are folded into `record`, which keeps little
    more than the token ids.

    Owned by one call. `add` is all that a message costs.
    """

    __slots__ = ("_bytes_max", "_messages", "_num_folded", "_record", "_room", "fault")

    def __init__(self, record: StreamRecord, *, bytes_max: int) -> None:
        self._record = record
        self._bytes_max = bytes_max
        self._room = bytes_max
        self._messages: list[bytes] = []
        self._num_folded = 0
        self.fault = ""
        """How the worker broke the rules of the stream, once that was seen: `StreamFault.kind`."""

    def __repr__(self) -> str:
        kept = self._bytes_max - self._room
        return f"Transcript({self.num_messages} messages, {kept} bytes unread{', ' + self.fault if self.fault else ''})"

    @property
    def num_messages(self) -> int:
        """Messages added so far."""
        return self._num_folded + len(self._messages)

    def add(self, message: bytes) -> None:
        """Notes a message for the client. Raises `Internal` once the worker is seen to have broken the rules."""
        self._messages.append(message)
        self._room -= len(message) + _MESSAGE_BYTES
        if self._room < 0:
            self._fold()

    def read(self) -> StreamRecord:
        """Everything so far, folded. Raises as `add`."""
        self._fold()
        return self._record

    def _fold(self) -> None:
        messages, self._messages, self._room = self._messages, [], self._bytes_max
        self._num_folded += len(messages)
        try:
            self._record.take(messages)
        except StreamFault as fault:
            self.fault = fault.kind
            raise Internal(f"the worker broke the rules of a stream: {fault}") from fault
