"""Carries out the steps of a call over blocking gRPC channels."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, final

import grpc

from lepton.v1 import inference_pb2, inference_pb2_grpc
from lepton_client.channels import ChannelPool
from lepton_client.errors import Cancelled, LeptonError
from lepton_client.silence import Silence
from lepton_client.status import CallIds, error_of, ids_of
from lepton_client.steps import (
    Answered,
    Close,
    Ended,
    Failed,
    Give,
    Open,
    Pause,
    Read,
    Reply,
    Step,
    Unary,
)
from lepton_client.watch import Watch

__all__ = ["Wire", "cancelled"]


@final
class Wire:
    """For one call at a time. `cancel` may come from any thread."""

    def __init__(self, channels: ChannelPool[grpc.Channel]) -> None:
        self._channels = channels
        self._call: Any = None
        self._silence: Silence | None = None
        self._watch: Watch | None = None
        self._cancelled = threading.Event()
        self._has_ids = False
        self.ids = CallIds()
        """Of the stream whose message came last."""

    def run(self, core: Generator[Step, Reply, Any]) -> Generator[inference_pb2.Event, None, None]:
        """Yields the events that the core gives. Raises `LeptonError`."""
        reply: Reply = None
        try:
            while True:
                if self._cancelled.is_set():
                    raise cancelled()
                try:
                    step = core.send(reply)
                except StopIteration:
                    return
                reply = None
                if isinstance(step, Give):
                    yield from step.events
                else:
                    reply = self._do(step)
        finally:
            core.close()
            self._end()

    def value(self, core: Generator[Step, Reply, Any]) -> Any:
        """What a core returns that gives no events. Raises `LeptonError`."""
        reply: Reply = None
        try:
            while True:
                reply = self._do(core.send(reply))
        except StopIteration as end:
            return end.value

    def cancel(self) -> None:
        """The running call ends with `Cancelled`."""
        self._cancelled.set()
        if self._call is not None:
            self._call.cancel()

    # --- inside -------------------------------------------------------------------------------

    def _do(self, step: Step) -> Reply:
        match step:
            case Open():
                self._end()
                self._has_ids = False
                stub = self._stub(step.address)
                self._call = stub.Generate(
                    step.request, timeout=step.timeout_s, metadata=step.metadata
                )
                if self._cancelled.is_set():
                    self._call.cancel()
            case Read():
                return self._read(step.silence_s)
            case Close():
                self._end()
            case Unary():
                return self._unary(step)
            case Pause():
                self._cancelled.wait(step.seconds)
            case Give():
                raise AssertionError("given in `run`")
        return None

    def _unary(self, step: Unary) -> Reply:
        method = getattr(self._stub(step.address), step.method)
        self._call = method.future(step.request, timeout=step.timeout_s, metadata=step.metadata)
        if self._cancelled.is_set():
            self._call.cancel()
        try:
            return Answered(self._call.result())
        except grpc.FutureCancelledError:
            return Failed(cancelled())
        except grpc.RpcError as error:
            return Failed(_meant(error))

    def _read(self, silence_s: float | None) -> Reply:
        if silence_s is not None:
            if self._silence is None:
                self._silence = Silence(silence_s, time.monotonic)
                self._watch = Watch(self._call, self._silence, _start_timer)
            self._silence.begins()
        try:
            message = next(self._call)
            if self._silence is not None:
                self._silence.ends()
            if not self._has_ids:
                self._has_ids, self.ids = True, ids_of(self._call.initial_metadata())
            return Answered(message)
        except StopIteration:
            return Ended()
        except grpc.RpcError as error:
            if self._silence is not None and self._silence.is_over:
                return Failed(self._silence.error)
            return Failed(_meant(error))

    def _end(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = self._silence = None
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _stub(self, address: str) -> Any:
        return inference_pb2_grpc.InferenceServiceStub(self._channels.get(address))  # type: ignore[no-untyped-call]


def _start_timer(seconds: float, then: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, then)
    timer.daemon = True
    timer.start()
    return timer


def cancelled() -> Cancelled:
    """What a call that was given up here ends with."""
    return Cancelled("the call was cancelled", code="CANCELLED", reason="CLIENT_GONE")


def _meant(error: Any) -> LeptonError:
    return error_of(error.code().name, error.details() or "", _all_metadata(error))


def _all_metadata(error: Any) -> Iterator[tuple[str, str | bytes]]:
    # Trailing metadata last: of a key that comes twice, theirs holds.
    yield from error.initial_metadata() or ()
    yield from error.trailing_metadata() or ()
