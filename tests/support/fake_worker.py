"""A worker without a model: a real gRPC server that answers as it is told, and remembers what it saw.

worker = FakeWorker("w1")
await worker.start()
worker.script = Script(messages=3, error=Unavailable("full"))   # three messages, then the error
...
seen = worker.calls[0]           # payload, metadata, deadline; `seen.ended` is set when it is over
await worker.stop()
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from pydantic import SecretStr

from common.call_ticket import CallTicket, CallTickets
from common.discovery.api import Instance
from common.errors import LeptonError, Reason, Unavailable
from common.rpc.metadata import CALLER_KEY, FINISHED_KEY, REQUEST_ID_KEY, TICKET_KEY
from common.rpc.status import DETAILS_KEY, codes_of, details_of
from lepton.v1 import inference_pb2, types_pb2, worker_pb2, worker_pb2_grpc
from tests.support.story import finished_of, story_of

__all__ = ["FakeWorker", "Script", "SeenCall", "message_of"]

_starts = itertools.count(1)


def message_of(worker_id: str, seq: int) -> bytes:
    """The serialised message number `seq` of a fake stream: `Started`, then deltas "token-<seq> "."""
    if seq == 0:
        event = inference_pb2.Event(seq=0, started=inference_pb2.Started(worker_id=worker_id))
    else:
        event = inference_pb2.Event(
            seq=seq, delta=inference_pb2.Delta(text=f"token-{seq} ", token_ids=[seq])
        )
    return inference_pb2.GenerateResponse(events=[event]).SerializeToString()


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What every Generate does, in this order: gate, messages, then hang, error, or end."""

    messages: int | Sequence[bytes] = 3
    """How many messages of `message_of`, or these bytes exactly."""
    gate: asyncio.Event | None = None
    """Waited for before the first message."""
    hang: bool = False
    """After the messages nothing happens any more; tokenizing does not even begin to answer."""
    error: LeptonError | None = None
    """After the messages the call fails with it."""
    error_ratio: float = 1.0
    """Share of the calls that fail with `error`, spread evenly; the others end well."""
    finished: bool = True
    """Whether a good end carries `lepton-finished-bin`."""
    story: int = 0
    """Tokens of the answer of `tests.support.story`, which then takes the place of `messages`."""
    stops_after: int | None = None
    """How many messages of the story are told; None: all."""
    dies: bool = False
    """After the messages the whole worker dies, with everything on it."""


@dataclass(slots=True, eq=False)
class SeenCall:
    """One call as the worker saw it."""

    method: str
    payload: bytes
    metadata: dict[str, Any]
    deadline_s: float | None
    """Seconds that were left when it arrived; None without a deadline."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    is_cancelled: bool = False


class FakeWorker:
    """InferenceService and WorkerService on a free port of loopback.

    `script` and `load` may be replaced at any time; `load` goes to every watcher at once.
    """

    def __init__(
        self,
        worker_id: str = "w1",
        *,
        model: str = "tiny",
        revision: str = "aaaaaaaa00000000",
        fingerprint: str = "fake",
        script: Script | None = None,
    ) -> None:
        self.id = worker_id
        self.model = model
        self.revision = revision
        self.fingerprint = fingerprint
        self.script = script or Script()
        self.continued: Script | None = None
        """What calls with a continuation do; None: as `script`."""
        self.gate: asyncio.Event | None = None
        """Waited for by every call, besides the script's."""
        self.poison = ""
        """A prompt that ends the worker before anything new comes out."""
        self.num_deaths = 0
        self.incarnation = ""
        self.port = 0
        self.calls: list[SeenCall] = []
        self.reports_silent = False
        """No load report leaves any more, although the streams stay open."""
        self.is_draining = False
        self.passes_probes = True
        self.num_probes = 0
        self.tickets = worker_pb2.TicketCounts()
        """For whatever router watches."""
        self._luck = 0.0
        self._load = worker_pb2.WatchLoadResponse(rows_max=8)
        self._changed = asyncio.Event()
        self._server: grpc.aio.Server | None = None
        self._death: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"FakeWorker({self.id} at {self.address}, {len(self.calls)} calls)"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def num_running(self) -> int:
        return sum(not call.ended.is_set() for call in self.calls)

    async def start(self) -> FakeWorker:
        """Serves; after `kill` or `stop` it serves again, on the same port, as a new incarnation."""
        self.incarnation = f"{self.id}-{next(_starts)}"
        self.tickets = worker_pb2.TicketCounts()
        self.is_draining = False
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        generate = grpc.unary_stream_rpc_method_handler(self._generate)
        service = "lepton.v1.InferenceService"
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Generate": generate,
            "Tokenize": grpc.unary_unary_rpc_method_handler(self._tokenize),
            "Detokenize": grpc.unary_unary_rpc_method_handler(self._detokenize),
            "CountTokens": grpc.unary_unary_rpc_method_handler(self._count_tokens),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(_WorkerService(self), server)
        self.port = server.add_insecure_port(self.address)
        await server.start()
        self._server = server
        return self

    async def stop(self, grace_s: float | None = None) -> None:
        """Ends the server; without grace running calls break off, as in a crash."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace_s)

    async def kill(self) -> None:
        """As `kill -9` looks from outside: every connection breaks."""
        await self.stop(None)

    async def _die(self) -> None:
        """`kill`, from within a call, which never comes back."""
        self.num_deaths += 1
        self._death = asyncio.ensure_future(self.kill())
        await asyncio.Event().wait()

    def instance(self, **changes: Any) -> Instance:
        """What it would register."""
        instance = Instance(
            id=self.id,
            incarnation=self.incarnation,
            address=self.address,
            model=self.model,
            revision=self.revision,
            tasks=("generate",),
            context_length=256,
            vocab_size=1000,
            rows_max=8,
            fingerprint=self.fingerprint,
            version="0",
        )
        return dataclasses.replace(instance, **changes)

    def report(self, **load: Any) -> None:
        """Changes fields of the load report and sends it."""
        for key, value in load.items():
            if isinstance(value, worker_pb2.PrefixNews):
                self._load.prefixes.CopyFrom(value)
            else:
                setattr(self._load, key, value)
        self._wake()

    def silence(self, *, silent: bool = True) -> None:
        """Stops or resumes the load reports."""
        self.reports_silent = silent
        self._wake()

    def drain(self) -> None:
        """Refuses what is new and says so in the load report."""
        self.is_draining = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def current_load(self) -> worker_pb2.WatchLoadResponse:
        """The report as it would leave now."""
        report = worker_pb2.WatchLoadResponse()
        report.CopyFrom(self._load)
        report.state = (
            worker_pb2.WORKER_STATE_DRAINING
            if self.is_draining
            else worker_pb2.WORKER_STATE_SERVING
        )
        report.incarnation = self.incarnation
        report.in_flight_of_router = self.num_running
        if self.tickets.taken:
            report.tickets.CopyFrom(self.tickets)
        return report

    async def next_load_change(self, within_s: float) -> None:
        """Returns at the next change or after `within_s`."""
        try:
            async with asyncio.timeout(within_s):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _generate(self, payload: bytes, context: Any) -> None:
        with self._seen("Generate", payload, context):
            # All that a test may change is read before the first wait: who sees the call knows what it does.
            script, gate_of_all, is_draining = self.script, self.gate, self.is_draining
            if self.continued is not None and _request(payload).HasField("continuation"):
                script = self.continued
            metadata = dict(context.invocation_metadata() or ())
            request_id = metadata.get(REQUEST_ID_KEY, "none")
            await context.send_initial_metadata(((REQUEST_ID_KEY, request_id),))
            if is_draining:
                await self._fail(context, Unavailable("this worker drains", reason=Reason.DRAINING))
            for gate in (gate_of_all, script.gate):
                if gate is not None:
                    await gate.wait()
            messages = script.messages
            if script.story:
                request = _request(payload)
                if self.poison and request.text == self.poison:
                    script = dataclasses.replace(script, stops_after=1, dies=True)
                story = story_of(request, worker_id=self.id, tokens=script.story)
                messages = list(story)[: script.stops_after]
            if isinstance(messages, int):
                messages = [message_of(self.id, seq) for seq in range(messages)]
            for number, message in enumerate(messages):
                if number == 1 and TICKET_KEY in metadata:
                    self.tickets.proved += ticket_of(metadata).on_probation
                await context.write(message)
            if script.dies:
                await self._die()
            if script.hang:
                await asyncio.Event().wait()
            if script.error is not None and self._is_bad_luck(script.error_ratio):
                await self._fail(context, script.error)
            if script.finished:
                finished = (
                    self.finished_story(script.story, _request(payload))
                    if script.story
                    else self.finished(len(messages))
                )
                context.set_trailing_metadata(((FINISHED_KEY, finished),))

    def finished(self, num_messages: int) -> bytes:
        """The `Finished` bytes after so many messages."""
        usage = types_pb2.Usage(prompt_tokens=1, completion_tokens=num_messages)
        return inference_pb2.Finished(usage=usage).SerializeToString()

    def finished_story(
        self, tokens: int, request: inference_pb2.GenerateRequest | None = None
    ) -> bytes:
        """The `Finished` bytes of a story."""
        num_choices = request.sampling.n if request and request.sampling.HasField("n") else 1
        return finished_of(num_choices, tokens).SerializeToString()

    async def _tokenize(self, payload: bytes, context: Any) -> bytes:
        with self._seen("Tokenize", payload, context):
            if self.script.hang:
                await asyncio.Event().wait()
            return inference_pb2.TokenizeResponse(token_ids=[1, 2, 3]).SerializeToString()

    async def _detokenize(self, payload: bytes, context: Any) -> bytes:
        with self._seen("Detokenize", payload, context):
            return inference_pb2.DetokenizeResponse(text="abc").SerializeToString()

    async def _count_tokens(self, payload: bytes, context: Any) -> bytes:
        with self._seen("CountTokens", payload, context):
            return inference_pb2.CountTokensResponse(num_tokens=3).SerializeToString()

    def _seen(self, method: str, payload: bytes, context: Any) -> _Seen:
        call = SeenCall(
            method=method,
            payload=payload,
            metadata=dict(context.invocation_metadata() or ()),
            deadline_s=context.time_remaining(),
        )
        self.calls.append(call)
        self._wake()
        return _Seen(self, call)

    def _is_bad_luck(self, ratio: float) -> bool:
        self._luck += ratio
        if self._luck < 1.0:
            return False
        self._luck -= 1.0
        return True

    async def _fail(self, context: Any, error: LeptonError) -> None:
        await context.abort(
            codes_of(error).grpc, error.message, ((DETAILS_KEY, details_of(error)),)
        )


def ticket_of(metadata: dict[str, Any]) -> CallTicket:
    """The ticket of a call, in a cluster without a token."""
    return CallTickets(SecretStr("")).read(metadata[TICKET_KEY], metadata.get(CALLER_KEY, ""))


def _request(payload: bytes) -> inference_pb2.GenerateRequest:
    return inference_pb2.GenerateRequest.FromString(payload)


class _Seen:
    def __init__(self, worker: FakeWorker, call: SeenCall) -> None:
        self._worker = worker
        self._call = call
        self._has_ticket = TICKET_KEY in call.metadata

    def __enter__(self) -> None:
        self._worker.tickets.taken += self._has_ticket

    def __exit__(self, cls: type[BaseException] | None, error: object, trace: object) -> None:
        self._call.is_cancelled = cls is asyncio.CancelledError
        self._call.ended.set()
        self._worker.tickets.ended += self._has_ticket
        self._worker.tickets.completed += self._has_ticket and cls is None
        self._worker._wake()


class _WorkerService(worker_pb2_grpc.WorkerServiceServicer):
    def __init__(self, worker: FakeWorker) -> None:
        self._worker = worker

    async def WatchLoad(  # noqa: N802
        self, request: worker_pb2.WatchLoadRequest, context: Any
    ) -> AsyncGenerator[worker_pb2.WatchLoadResponse]:
        while True:
            if not self._worker.reports_silent:
                yield self._worker.current_load()
            await self._worker.next_load_change((request.interval_ms or 50) / 1000)

    async def Probe(  # noqa: N802
        self, request: worker_pb2.ProbeRequest, context: Any
    ) -> worker_pb2.ProbeResponse:
        self._worker.num_probes += 1
        return worker_pb2.ProbeResponse(passed=self._worker.passes_probes, duration_us=1000)

    async def Drain(  # noqa: N802
        self, request: worker_pb2.DrainRequest, context: Any
    ) -> worker_pb2.DrainResponse:
        self._worker.drain()
        return worker_pb2.DrainResponse(num_running=self._worker.num_running)

    async def GetInfo(  # noqa: N802
        self, request: worker_pb2.GetInfoRequest, context: Any
    ) -> worker_pb2.GetInfoResponse:
        return worker_pb2.GetInfoResponse(
            worker_id=self._worker.id, incarnation=self._worker.incarnation
        )
