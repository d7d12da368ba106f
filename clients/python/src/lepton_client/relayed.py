"""A Generate through routers: retried until its first event, resumed after it where that is wanted.

Pure (see `steps`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Final, final

from lepton.v1 import inference_pb2
from lepton_client.asking import Asking, Retries
from lepton_client.errors import LeptonError, Unavailable
from lepton_client.order import Order
from lepton_client.retry import ResumePolicy, backoff_s
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

__all__ = ["RelayedCall"]

_READ: Final = Read()


@final
class RelayedCall:
    """One call. `run` once; `abort` afterwards, when whoever iterated has left before the end."""

    def __init__(
        self,
        asking: Asking,
        request: inference_pb2.GenerateRequest,
        *,
        resume: ResumePolicy | None = None,
    ) -> None:
        """`resume`: how to come back to a stream that broke; None: not at all."""
        asked = inference_pb2.GenerateRequest()
        asked.CopyFrom(request)
        if resume is not None and not asked.resumable_ms:
            asked.resumable_ms = round(resume.keep_s * 1000)
        self._asking = asking
        self._order = Order(asked)
        self._resume = resume
        self._num_idle = 0
        """Attempts since the last new event."""
        self._failure: LeptonError | None = None
        """How the last attempt ended."""

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
        route, order = self._asking.route, self._order
        for address in route.in_order():
            if self._failure is not None:
                self._asking.tell(address, order.last_seq, self._failure)
            yield Open(
                address=address,
                request=order.request_now(),
                metadata=self._asking.metadata,
                timeout_s=self._asking.deadline.left_s(),
            )
            has_answered = False
            while True:
                reply = yield _READ
                if not isinstance(reply, Answered):
                    break
                if not has_answered:
                    has_answered = True
                    route.answered(address)
                yield from self._take(reply)
            if order.is_finished:
                return None
            if isinstance(reply, Failed) and not is_lost_connection(reply.error):
                route.answered(address)
            route.failed(address)
            if not isinstance(reply, Failed):
                self._failure = lost("the stream ended before its end")
                return self._failure
            if not is_lost_connection(reply.error):
                self._failure = reply.error
                return self._failure
            self._failure = self._lost((address,), reply.error)
            if has_answered:
                return self._failure
            cause = reply.error
        return self._lost(route.addresses, cause)

    def _lost(self, addresses: Iterable[str], cause: LeptonError) -> LeptonError:
        if self._order.has_begun:
            broke = "the connection broke in the middle of the answer"
            return lost(f"{broke}: {cause.message}", cause)
        return unreachable(addresses, cause)

    def _take(self, reply: Answered) -> Generator[Step, Reply, None]:
        response: inference_pb2.GenerateResponse = reply.message
        new = self._order.take(response.events)
        if new:
            self._num_idle = 0
            yield Give(new)

    def _wait_s(self, error: LeptonError) -> float:
        """The stream broke with `error`: how long to wait before it is resumed. Raises `error` when it is not."""
        resume = self._resume
        if resume is None or not self._order.resume_token or not isinstance(error, Unavailable):
            raise error
        if self._num_idle >= resume.resumptions_max:
            raise error
        wait_s = backoff_s(self._num_idle, self._asking.rng, at_least_s=error.retry_after)
        self._num_idle += 1
        if wait_s >= self._asking.deadline.left_s():
            raise error
        return wait_s
