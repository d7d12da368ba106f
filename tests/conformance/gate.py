"""What stands between a client and a process of the cluster: it writes down what passes, counts events, and does what a
case asks for. Whatever it does not change goes through byte for byte.

    client ──FaultProxy (may cut)──> Gate (reads gRPC) ──> router, or worker in direct mode
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final, Self, final

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from chaos.proxy import FaultProxy, LinkFaults
from common.clock import Clock
from common.rpc.channel import channel_options
from common.rpc.status import DETAILS_KEY, DOMAIN
from lepton.v1 import inference_pb2
from tests.conformance.case import Call, Refusal
from tests.support.certificate import Certificate

__all__ = ["Gate", "Script"]

_MESSAGE_BYTES_MAX: Final = 64 << 20
_NOT_OURS: Final = ("grpc-", "user-agent", "content-type", "te")
_UNKNOWN_FIELD: Final = b"\xc2\x3e\x06future"
"""Field 1000, six bytes: what a newer server might add to any message."""
_UNKNOWN_REASON: Final[Any] = 99

_STREAMS: Final = "/lepton.v1.InferenceService/Generate"
_PICK: Final = "/lepton.v1.InferenceService/Pick"

_DRAINING: Final = Refusal(code="UNAVAILABLE", reason="DRAINING")

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(slots=True, kw_only=True)
class Script:
    """What all gates of a case share: what passed, and what is to be done."""

    clock: Clock
    calls: list[Call] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    """For the next calls of Generate, one each."""
    adds_unknown: bool = False
    """Every message of a stream gets a field that no client knows."""
    unknown_finish: bool = False
    """Choices end for a reason that no client knows."""
    drains_after_events: int | None = None
    """The stream that gets so far ends with DRAINING, once."""
    num_events: int = 0
    """That were passed on, over all calls of the case."""
    worker_id: str = ""
    """Who answers now."""
    on_events: Callable[[Gate], Awaitable[None]] | None = None
    """Called after each message of a stream, and when a stream is asked for."""
    worker_gate: Callable[[str], Awaitable[str]] | None = None
    """What a picked worker's address is replaced with."""

    def drains(self) -> bool:
        """Whether it is time to; yes only once."""
        if self.drains_after_events is None or self.num_events < self.drains_after_events:
            return False
        self.drains_after_events = None
        return True


@final
class Gate:
    """In front of `target` (host:port), for as long as the block lasts; `address` is where clients go, with a
    `certificate` also `tls_address`.
    """

    def __init__(
        self, name: str, target: str, clock: Clock, *, certificate: Certificate | None = None
    ) -> None:
        self.name = name
        self.tls_address = ""
        self._certificate = certificate
        self.target = target
        self.script = Script(clock=clock)
        self._clock = clock
        self._stack = AsyncExitStack()
        self._proxy: FaultProxy | None = None

    async def __aenter__(self) -> Self:
        options = channel_options(message_bytes_max=_MESSAGE_BYTES_MAX)
        self._channel = await self._stack.enter_async_context(
            grpc.aio.insecure_channel(self.target, options=options)
        )
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX)])
        server.add_generic_rpc_handlers((_Handler(self),))
        port = server.add_insecure_port("127.0.0.1:0")
        if (own := self._certificate) is not None:
            credentials = grpc.ssl_server_credentials([(own.key, own.chain)])
            secure = server.add_secure_port("127.0.0.1:0", credentials)
            self.tls_address = f"127.0.0.1:{secure}"
        await server.start()
        self._stack.push_async_callback(server.stop, None)
        self._proxy = await self._stack.enter_async_context(
            FaultProxy(f"127.0.0.1:{port}", self._clock)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def address(self) -> str:
        """host:port."""
        return self._link.address

    def cut(self) -> None:
        """RST on every connection."""
        self._link.reset()

    def close_door(self) -> None:
        """From now on every connection is reset at once, those that are open too."""
        self._link.faults = LinkFaults(refuses=True)
        self._link.reset()

    def heal(self) -> None:
        """Undoes `close_door`."""
        self._link.heal()

    @property
    def _link(self) -> FaultProxy:
        assert self._proxy is not None
        return self._proxy

    # --- what passes --------------------------------------------------------------------------

    async def unary(self, method: str, request: bytes, context: Any) -> bytes:
        """One message each way."""
        self._note(method, request, context)
        call = self._channel.unary_unary(method)(
            request, timeout=_time_left(context), metadata=_passed_on(context)
        )
        try:
            response: bytes = await call
        except grpc.aio.AioRpcError as error:
            await _fail_alike(context, error)
        if method == _PICK and self.script.worker_gate is not None:
            picked = inference_pb2.PickResponse.FromString(response)
            picked.address = await self.script.worker_gate(picked.address)
            response = picked.SerializeToString()
        await context.send_initial_metadata(tuple(await call.initial_metadata() or ()))
        context.set_trailing_metadata(tuple(await call.trailing_metadata() or ()))
        return response

    async def stream(self, method: str, request: bytes, context: Any) -> None:
        """One message there, many back; written, not yielded, so that a client that leaves ends it here and now."""
        self._note(method, request, context)
        if self.script.refusals:
            await _refuse(context, self.script.refusals.pop(0))
        await self._told()
        call = self._channel.unary_stream(method)(
            request, timeout=_time_left(context), metadata=_passed_on(context)
        )
        try:
            begun = False
            async for message in call:
                if not begun:
                    begun = True
                    await context.send_initial_metadata(tuple(await call.initial_metadata() or ()))
                await context.write(self._changed(message))
                self._count(message)
                await self._told()
                if self.script.drains():
                    await _refuse(context, _DRAINING)
            context.set_trailing_metadata(tuple(await call.trailing_metadata() or ()))
        except grpc.aio.AioRpcError as error:
            await _fail_alike(context, error)
        finally:
            call.cancel()

    def _note(self, method: str, request: bytes, context: Any) -> None:
        self.script.calls.append(
            Call(
                method=method.rpartition("/")[2],
                at=self._clock.now(),
                gate=self.name,
                metadata={
                    key: value
                    for key, value in context.invocation_metadata() or ()
                    if isinstance(value, str)
                },
                request=request,
            )
        )

    def _changed(self, message: bytes) -> bytes:
        if self.script.unknown_finish:
            response = inference_pb2.GenerateResponse.FromString(message)
            for event in response.events:
                if event.delta.HasField("end"):
                    event.delta.end.reason = _UNKNOWN_REASON
                for end in event.finished.choices:
                    end.reason = _UNKNOWN_REASON
            message = response.SerializeToString()
        return message + (_UNKNOWN_FIELD if self.script.adds_unknown else b"")

    def _count(self, message: bytes) -> None:
        for event in inference_pb2.GenerateResponse.FromString(message).events:
            self.script.num_events += 1
            if event.HasField("started"):
                self.script.worker_id = event.started.worker_id
            elif event.HasField("migrated"):
                self.script.worker_id = event.migrated.to_worker_id

    async def _told(self) -> None:
        if self.script.on_events is not None:
            await self.script.on_events(self)


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Every method of every service."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method

        async def unary(request: bytes, context: Any) -> bytes:
            return await self._gate.unary(method, request, context)

        async def stream(request: bytes, context: Any) -> None:
            await self._gate.stream(method, request, context)

        if method == _STREAMS:
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(unary)


def _passed_on(context: Any) -> Metadata:
    metadata: Sequence[tuple[str, str | bytes]] = context.invocation_metadata() or ()
    return tuple((k, v) for k, v in metadata if not k.startswith(_NOT_OURS))


def _time_left(context: Any) -> float | None:
    left_s: float | None = context.time_remaining()
    return left_s


async def _fail_alike(context: Any, error: grpc.aio.AioRpcError) -> None:
    initial = tuple(error.initial_metadata() or ())
    with contextlib.suppress(grpc.aio.UsageError):  # they went with the first message
        await context.send_initial_metadata(initial)
    await context.abort(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))


async def _refuse(context: Any, refusal: Refusal) -> None:
    code = grpc.StatusCode[refusal.code]
    trailing: tuple[tuple[str, bytes], ...] = ()
    if refusal.reason:
        status = status_pb2.Status(code=code.value[0], message=refusal.message)
        info = error_details_pb2.ErrorInfo(reason=refusal.reason, domain=DOMAIN)
        status.details.append(_packed(info))
        if refusal.retry_after_s is not None:
            delay = Duration()
            delay.FromNanoseconds(int(refusal.retry_after_s * 1e9))
            status.details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
        trailing = ((DETAILS_KEY, status.SerializeToString()),)
    await context.abort(code, refusal.message, trailing)


def _packed(detail: Any) -> Packed:
    packed = Packed()
    packed.Pack(detail)
    return packed
