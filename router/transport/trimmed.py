"""Takes out of a stream what its client has already."""

from __future__ import annotations

from typing import final

from lepton.v1 import inference_pb2
from router.core.ports import Write

__all__ = ["TrimmedWrite"]


@final
class TrimmedWrite:
    """A `Write` that drops events up to and with `after_seq`. Behind them, messages pass unread."""

    def __init__(self, write: Write, after_seq: int) -> None:
        self._write = write
        self._after_seq = after_seq
        self._has_passed = False

    async def __call__(self, message: bytes) -> None:
        if not self._has_passed:
            response = inference_pb2.GenerateResponse.FromString(message)
            num_known = sum(event.seq <= self._after_seq for event in response.events)
            if num_known == len(response.events):
                return
            self._has_passed = True
            if num_known:
                del response.events[:num_known]
                message = response.SerializeToString()
        await self._write(message)
