"""One accepted socket: reads, runs what is asked, writes one message at a time.

Back-pressure: each generation has at most one message under way, and waits, and with it its worker, until the socket
has taken it. Generations take turns. A socket that takes nothing for too long is cut, and with it all its generations.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from functools import partial
from typing import Final, final

from starlette.websockets import WebSocket, WebSocketDisconnect

from common.errors import Cancelled, Internal, LeptonError, Reason
from common.logs import get_logger
from common.rpc.caller import caller_as_said
from common.rpc.status import codes_of
from gateway.ports import Asked, Upstream
from gateway.settings import GatewaySettings
from gateway.websocket.record import recorded
from gateway.websocket.session import Begin, Generation, Leave, Refuse, Say, Session, State
from lepton.v1 import inference_pb2

__all__ = ["Connection"]

CLOSE_UNSUPPORTED: Final = 1003
"""RFC 6455, 7.4.1: a kind of data that is not taken here."""

_REASON_BYTES_MAX: Final = 123
"""RFC 6455, 5.5: a control frame has at most 125 bytes, of which the code takes two."""

_ABORT_S_MAX: Final = 5.0
"""Longest wait for the end of a cancelled call that would outlive its connection, seconds."""

log = get_logger(__name__)


@final
class Connection:
    """Runs a conversation from the accepted socket to its end.

    Resources: tasks, which end with `run`; the compute of calls that are not resumable ends with them.
    """

    def __init__(
        self,
        socket: WebSocket,
        upstream: Upstream,
        settings: GatewaySettings,
        *,
        metadata: tuple[tuple[str, str], ...],
        abort: Callable[[], None],
    ) -> None:
        self._socket = socket
        self._upstream = upstream
        self._metadata = metadata
        self._abort = abort
        self._slow_reader_s = settings.slow_reader_s
        self._session = Session(
            generations_max=settings.socket_generations_max,
            depth_max=settings.json_depth_max,
            values_max=settings.json_values_max,
            faults_max=settings.socket_faults_max,
            new_request_id=lambda: uuid.uuid4().hex,
        )
        self._tasks: dict[Generation, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._recorded = partial(recorded, caller=caller_as_said(metadata), now=self._loop.time)
        self._sending_since: float | None = None
        """When the message was begun that is on its way; on the loop's clock, seconds."""
        self._look: asyncio.TimerHandle | None = None
        """The next look at it. One timer for many messages: of its own, each would cost as much as its JSON."""
        self._is_over = False
        """Nothing more is said."""

    async def run(self) -> None:
        """Returns when the socket is closed, by whom ever. Cancellation: safe."""
        async with asyncio.TaskGroup() as group:
            try:
                await self._read(group)
            finally:
                self._is_over = True
                if self._look is not None:
                    self._look.cancel()
                for task in self._tasks.values():
                    task.cancel()

    # --- inside -------------------------------------------------------------------------------

    async def _read(self, group: asyncio.TaskGroup) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            if text is None:
                await self._close(CLOSE_UNSUPPORTED, "messages are texts, not bytes")
                return
            try:
                asked = self._session.receive(text)
            except LeptonError as fault:
                await self._close(codes_of(fault).websocket, f"{fault.reason}: {fault.message}")
                return
            match asked:
                case Begin():
                    self._begin(asked, group)
                case Leave():
                    self._leave(asked.generation, group)
                case Refuse():
                    with self._recorded(asked.request_id) as record:
                        record.error = asked.error
                    await self._say(asked.text)
                case Say():
                    await self._say(asked.text)

    def _begin(self, asked: Begin, group: asyncio.TaskGroup) -> None:
        generation = asked.generation
        task = group.create_task(self._generate(asked))
        self._tasks[generation] = task
        task.add_done_callback(lambda _: self._tasks.pop(generation))

    def _leave(self, generation: Generation, group: asyncio.TaskGroup) -> None:
        if generation.resume_token:
            group.create_task(self._end_detached(generation))
        else:
            self._tasks[generation].cancel()

    async def _generate(self, asked: Begin) -> None:
        generation = asked.generation
        with self._recorded(generation.request_id) as record:
            record.error = await self._answer(asked)
        await self._say(self._session.end(generation, record.error))

    async def _answer(self, asked: Begin) -> LeptonError | None:
        """Tells all events; returns what went wrong."""
        generation = asked.generation

        async def write(message: bytes) -> None:
            if text := self._session.events(generation, message):
                await self._say(text)

        try:
            await self._upstream.generate(
                asked.request.SerializeToString(),
                Asked(metadata=self._metadata, timeout_s=asked.timeout_s),
                write,
            )
        except LeptonError as refusal:
            return refusal
        except asyncio.CancelledError:
            if generation.state is not State.LEFT:
                raise
            return Cancelled("cancelled by the client", reason=Reason.CLIENT_GONE)
        except Exception:
            log.exception("websocket.generation_failed", request_id=generation.request_id)
            return Internal("something broke on our side; the log of this process says what")
        return None

    async def _end_detached(self, generation: Generation) -> None:
        """A call that outlives its connection is ended by `Abort`; its stream then says so itself."""
        try:
            await self._upstream.unary(
                "Abort",
                inference_pb2.AbortRequest(resume_token=generation.resume_token),
                Asked(metadata=self._metadata, timeout_s=_ABORT_S_MAX),
            )
        except LeptonError as refusal:
            log.info("websocket.abort_failed", reason=refusal.reason.value)
            if generation.state is not State.ENDED:
                self._tasks[generation].cancel()

    async def _say(self, text: str) -> None:
        """Returns when the socket has taken it, or is over."""
        async with self._turn:
            if self._is_over:
                return
            self._sending_since = self._loop.time()
            if self._look is None:
                self._look = self._loop.call_later(self._slow_reader_s, self._look_at_reader)
            try:
                await self._socket.send_text(text)
            except WebSocketDisconnect:
                self._is_over = True  # `_read` hears of it as well
            finally:
                self._sending_since = None

    def _look_at_reader(self) -> None:
        """Cuts a socket that has not taken its message in time, and looks again as long as one is on its way."""
        self._look = None
        if self._sending_since is None:
            return
        left_s = self._sending_since + self._slow_reader_s - self._loop.time()
        if left_s > 0:
            self._look = self._loop.call_later(left_s, self._look_at_reader)
            return
        self._is_over = True
        log.info("websocket.slow_reader", slow_reader_s=self._slow_reader_s)
        self._abort()

    async def _close(self, code: int, reason: str) -> None:
        cut = reason.encode("utf-8", "replace")[:_REASON_BYTES_MAX].decode("utf-8", "ignore")
        async with self._turn:
            if not self._is_over:
                await self._socket.close(code, cut)
