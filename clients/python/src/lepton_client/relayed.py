"""A Generate through routers: retried until its first event, resumed after it where that is wanted.

Pure (see `steps`).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, final

from lepton.v1 import inference_pb2
from lepton_client.asking import Asking, Retries
from lepton_client.errors import LeptonError, Unavailable
from lepton_client.order import Order
from lepton_client.retry import backoff_s
from lepton_client.status import is_lost_connection, lost, unreachable
from lepton_client.steps import (
    Answered,
    Failed,
    Give,
    Open,
    Pause,
    Read,
    Reply,
    Step,
)

__all__ = ["RESUMABLE_MS", "RelayedCall"]

RESUMABLE_MS: Final = 30_000
_RESUMPTIONS_MAX: Final = 5
"""In a row without a new event."""


@final
class RelayedCall:
    """One call. `run` once; `abort` afterwards, when whoever iterated has left before the end."""

    def __init__(
        self, asking: Asking, request: inference_pb2.GenerateRequest, *, resume: bool
    ) -> None:
        asked = inference_pb2.GenerateRequest()
        asked.CopyFrom(request)
        if resume and not asked.resumable_ms:
            asked.resumable_ms = RESUMABLE_MS
        self._asking = asking
        self._order = Order(asked)
        self._resumes = resume
        self._num_idle = 0
        """Attempts since the last new event."""

    def run(self) -> Generator[Step, Reply, None]:
        """The events of the answer, given once each. Raises `LeptonError`."""
        retries = Retries(self._asking)
        while True:
            error = yield from self._attempt()
            if error is None:
                return
            has_begun = self._order.has_begun
            yield Pause(self._wait_s(error) if has_begun else retries.wait_s(error))

    @property
    def abort(self) -> inference_pb2.AbortRequest | None:
        """What ends a resumable call that is given up; None when leaving the stream does."""
        if self._order.is_finished or not self._order.resume_token:
            return None
        return inference_pb2.AbortRequest(resume_token=self._order.resume_token)

    # --- inside -------------------------------------------------------------------------------

    def _attempt(self) -> Generator[Step, Reply, LeptonError | None]:
        """Asks each router until one answers; None when the answer is complete."""
        failures: list[LeptonError] = []
        for address in self._asking.routers.in_order():
            yield Open(
                address=address,
                request=self._order.request_now(),
                metadata=self._asking.metadata,
                timeout_s=self._asking.deadline.left_s(),
            )
            has_answered = False
            while True:
                reply = yield Read()
                if not isinstance(reply, Answered):
                    break
                if not has_answered:
                    has_answered = True
                    self._asking.routers.answered(address)
                yield from self._take(reply)
            if self._order.is_finished:
                return None
            if not isinstance(reply, Failed):
                return lost("the stream ended before its end")
            if not is_lost_connection(reply.error):
                self._asking.routers.answered(address)
                return reply.error
            failures.append(reply.error)
            if has_answered:
                break
        cause = failures[-1]
        if not self._order.has_begun:
            return unreachable(self._asking.routers.addresses, cause)
        return lost(f"the connection broke in the middle of the answer: {cause.message}", cause)

    def _take(self, reply: Answered) -> Generator[Step, Reply, None]:
        response: inference_pb2.GenerateResponse = reply.message
        new = self._order.take(response.events)
        if new:
            self._num_idle = 0
            yield Give(new)

    def _wait_s(self, error: LeptonError) -> float:
        """The stream broke with `error`: how long to wait before it is resumed. Raises `error` when it is not."""
        can_go_on = self._resumes and self._order.resume_token and isinstance(error, Unavailable)
        if not can_go_on or self._num_idle >= _RESUMPTIONS_MAX:
            raise error
        wait_s = backoff_s(self._num_idle, self._asking.rng, at_least_s=error.retry_after)
        self._num_idle += 1
        if wait_s >= self._asking.deadline.left_s():
            raise error
        return wait_s
