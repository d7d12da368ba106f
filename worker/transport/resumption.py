"""Which call a request means that may outlive its connection: one that is there already, or a new one."""

from __future__ import annotations

from typing import final

from common.request.fingerprint import fingerprint_of
from common.resume_token import ResumePoint, ResumeTokens, new_call_id, resume_not_found
from lepton.v1 import inference_pb2
from worker.transport.resumable_calls import ResumableCalls
from worker.transport.running_call import RunningCall

__all__ = ["Resumption", "first_seq_wanted"]


def first_seq_wanted(message: inference_pb2.GenerateRequest) -> int:
    """Where a listener begins: what an earlier worker has sent, it does not need."""
    if message.HasField("continuation"):
        return message.continuation.next_seq
    resume = message.resume
    return resume.after_seq + 1 if resume.HasField("after_seq") else 0


@final
class Resumption:
    """Finds and makes calls; `linger_s` and `keep_s` (seconds) hold for those with an idempotency key."""

    def __init__(
        self,
        *,
        worker_id: str,
        calls: ResumableCalls,
        tokens: ResumeTokens,
        linger_s: float,
        keep_s: float,
    ) -> None:
        self._worker_id = worker_id
        self._calls = calls
        self._tokens = tokens
        self._linger_s = linger_s
        self._keep_s = keep_s

    def by_token(self, token: str, caller: str) -> RunningCall | None:
        """The call that a token names; None when it is not there any more.

        Raises `NotFound(RESUME_NOT_FOUND)` for a token that is made up, of another worker or of another caller.
        """
        point = self._tokens.read(token, caller)
        if point.worker_id != self._worker_id:
            raise resume_not_found()
        return self._calls.find(point.call_id, caller)

    def find(self, message: inference_pb2.GenerateRequest, caller: str) -> RunningCall | None:
        """The call that a valid request goes on with or joins; None when it begins one.

        Raises `NotFound` (RESUME_NOT_FOUND, RESUME_EXPIRED) and `InvalidRequest` (IDEMPOTENCY_KEY_REUSED,
        FIELDS_CONTRADICT, FIELD_OUT_OF_RANGE).
        """
        if message.HasField("continuation"):
            return None
        if token := message.resume.resume_token:
            call = self.by_token(token, caller)
        elif key := message.idempotency_key:
            call = self._calls.find_by_key((caller, key))
        else:
            return None
        if call is None:
            if message.HasField("resume"):
                raise resume_not_found()
            return None
        call.check_same(fingerprint_of(message), by_key=not message.resume.resume_token)
        call.check_seq(first_seq_wanted(message))
        return call

    def new_call(self, message: inference_pb2.GenerateRequest, caller: str) -> RunningCall:
        """A call for a request that begins one, to be started."""
        key = (caller, message.idempotency_key) if message.idempotency_key else None
        resumable_s = message.resumable_ms / 1000
        return RunningCall(
            call_id=new_call_id(),
            caller=caller,
            fingerprint=fingerprint_of(message),
            ring=self._calls.new_ring(first_seq=message.continuation.next_seq),
            key=key,
            linger_s=max(resumable_s, self._linger_s) if key else resumable_s,
            keep_s=max(resumable_s, self._keep_s) if key else resumable_s,
        )

    def token_of(self, call: RunningCall) -> str:
        """The way back to a call."""
        point = ResumePoint(worker_id=self._worker_id, call_id=call.call_id)
        return self._tokens.make(point, call.caller)
