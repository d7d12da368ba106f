"""A call that outlives its connections: one generation, its replay ring, and whoever listens."""

from __future__ import annotations

import asyncio
import copy
from typing import Final, final

from common.errors import Cancelled, InvalidRequest, LeptonError, NotFound, Reason
from worker.transport.replay_ring import ReplayRing

__all__ = ["CallKey", "RunningCall"]

CallKey = tuple[str, str]
"""(caller, idempotency key)."""

_READ_BYTES_MAX: Final = 64 << 10
"""Most that one message carries when a listener catches up."""


@final
class RunningCall:
    """Owned by `ResumableCalls`; belongs to one event loop.

    The generation appends and never waits; each listener reads at its own pace. One that falls so far behind that the
    ring has dropped what it needs is cut off.
    """

    def __init__(
        self,
        *,
        call_id: bytes,
        caller: str,
        fingerprint: bytes,
        ring: ReplayRing,
        key: CallKey | None,
        linger_s: float,
        keep_s: float,
    ) -> None:
        self.call_id = call_id
        self.caller = caller
        self.fingerprint = fingerprint
        """Of the request: whoever comes back must ask for the same."""
        self.ring = ring
        self.key = key
        self.linger_s = linger_s
        """How long it goes on computing without a listener."""
        self.keep_s = keep_s
        """How long its ring is kept after its end."""
        self.num_listeners = 0
        self.is_known = key is not None
        """Somebody has what it takes to come back: the key, or the first events, which bring the token."""
        self._end: bytes | LeptonError | None = None
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        state = "running" if self._end is None else "ended"
        return f"RunningCall({self.call_id.hex()[:8]}, {state}, {self.num_listeners} listeners, {self.ring!r})"

    @property
    def has_ended(self) -> bool:
        """Whether nothing is computed any more."""
        return self._end is not None

    @property
    def has_failed(self) -> bool:
        """Whether it ended in an error."""
        return isinstance(self._end, LeptonError)

    @property
    def rest_s(self) -> float:
        """How long it stays without a listener."""
        if not self.is_known:
            return 0.0
        return self.keep_s if self.has_ended else self.linger_s

    def tell(self) -> None:
        """Wakes the listeners: the ring has more."""
        self._changed.set()
        self._changed = asyncio.Event()

    def end(self, how: bytes | LeptonError) -> None:
        """Its serialised `Finished`, or what it failed with. Only the first end counts."""
        if self._end is None:
            self._end = how
            self.tell()

    def check_same(self, fingerprint: bytes, *, by_key: bool) -> None:
        """Raises `InvalidRequest` when the request of whoever comes back is not that of the call."""
        if fingerprint == self.fingerprint:
            return
        if by_key:
            raise InvalidRequest(
                "a call with this idempotency_key exists, and its request was another one; "
                "take a new key for a new request",
                reason=Reason.IDEMPOTENCY_KEY_REUSED,
                field="idempotency_key",
            )
        raise InvalidRequest(
            "resume goes with the request of the first call, and this is another one",
            reason=Reason.FIELDS_CONTRADICT,
            field="resume",
        )

    def has(self, seq: int) -> bool:
        """Whether a listener that begins at `seq` gets everything from there on."""
        return self.ring.first_seq <= seq <= self.ring.next_seq

    def check_seq(self, seq: int) -> None:
        """Raises when a listener cannot begin at `seq`: it is dropped already, or cannot have been told yet."""
        if seq < self.ring.first_seq:
            raise NotFound(
                f"the events before {self.ring.first_seq} are not kept any more (setting worker.replay_bytes_max); "
                "ask again without resume",
                reason=Reason.RESUME_EXPIRED,
                field="resume.after_seq",
            )
        if seq > self.ring.next_seq:
            raise InvalidRequest(
                f"after_seq is {seq - 1}, and the last event of this call is {self.ring.next_seq - 1}",
                reason=Reason.FIELD_OUT_OF_RANGE,
                field="resume.after_seq",
            )

    async def read(self, seq: int) -> tuple[bytes, int] | None:
        """The events from `seq` on and the `seq` after them, waiting for them; None after the last one.

        Raises what the call failed with, once everything before that has been read; `Cancelled(SLOW_READER)` when the
        ring has dropped `seq`.
        """
        while True:
            if seq < self.ring.first_seq:
                raise Cancelled(
                    "the reader was so slow that the events it needs are not kept any more "
                    "(setting worker.replay_bytes_max)",
                    reason=Reason.SLOW_READER,
                )
            if seq < self.ring.next_seq:
                self.is_known = True
                return self.ring.read(seq, bytes_max=_READ_BYTES_MAX)
            if isinstance(self._end, LeptonError):
                raise copy.copy(self._end)  # several listeners: each needs a traceback of its own
            if self._end is not None:
                return None
            await self._changed.wait()

    @property
    def finished(self) -> bytes:
        """The serialised `Finished`; empty until it has ended well."""
        return self._end if isinstance(self._end, bytes) else b""
