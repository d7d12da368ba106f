"""`lepton.v1.InferenceService` of a worker: parse, run the task, encode."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from functools import partial
from typing import Any, Final, final

import grpc

from common.clock import Clock
from common.cluster import ClusterSettings
from common.limits import Limits
from common.request.parse import parse_message
from common.request.resumption import outlives_connection
from common.request.validate import (
    validate_detokenize,
    validate_generate,
    validate_tokenize,
)
from common.rpc.auth import is_router
from common.rpc.handlers import raw_unary_stream, raw_unary_unary
from common.rpc.interceptors import annotate
from common.rpc.metadata import FINISHED_KEY, REQUEST_ID_KEY
from lepton.v1 import inference_pb2
from worker.tasks.api import GenerateRequest, ModelFacts, Task, Timeline
from worker.tasks.tokenizer_pool import TokenizerPool
from worker.transport.call_context import CallFacts, ServicerContext, deadline_of, facts_of
from worker.transport.call_report import CallReporter
from worker.transport.convert import (
    check_model,
    parse_detokenize,
    parse_generate,
    parse_prompt,
)
from worker.transport.encode import ResponseEncoder, encode_model
from worker.transport.in_flight import InFlight
from worker.transport.resumable_calls import Append, ResumableCalls
from worker.transport.resumption import Resumption, first_seq_wanted
from worker.transport.running_call import RunningCall
from worker.transport.self_pick import SelfPick
from worker.transport.tickets import TicketDesk

__all__ = ["SERVICE_NAME", "InferenceService"]

SERVICE_NAME: Final = "lepton.v1.InferenceService"


@final
class InferenceService:
    """What clients call; the router passes their calls on unchanged."""

    def __init__(
        self,
        *,
        worker_id: str,
        model: ModelFacts,
        tasks: Mapping[str, Task],
        tokenizers: TokenizerPool,
        limits: Limits,
        cluster: ClusterSettings,
        in_flight: InFlight,
        tickets: TicketDesk,
        self_pick: SelfPick,
        calls: ResumableCalls,
        resumption: Resumption,
        reporter: CallReporter,
        clock: Clock,
    ) -> None:
        self._worker_id = worker_id
        self._model = model
        self._tasks = tasks
        self._tokenizers = tokenizers
        self._limits = limits
        self._cluster = cluster
        self._in_flight = in_flight
        self._tickets = tickets
        self._self_pick = self_pick
        self._calls = calls
        self._resumption = resumption
        self._reporter = reporter
        self._clock = clock

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """By method name, for `RpcServer.add_service`."""
        return {
            "Generate": raw_unary_stream(self.generate),
            "Pick": raw_unary_unary(self._self_pick.pick),
            "Tokenize": raw_unary_unary(self.tokenize),
            "Detokenize": raw_unary_unary(self.detokenize),
            "CountTokens": raw_unary_unary(self.count_tokens),
            "Abort": raw_unary_unary(self.abort),
            "ListModels": raw_unary_unary(self.list_models),
        }

    async def generate(
        self, payload: bytes, context: ServicerContext
    ) -> AsyncGenerator[bytes, None]:
        """Yields serialised `GenerateResponse`s; the trailing metadata repeat the `Finished`.

        Errors: `LeptonError`, for the interceptor. Cancellation: stops the compute within a step, unless the call
        outlives its connection.
        """
        timeline = Timeline(arrived_at=self._clock.now())
        async with AsyncExitStack() as stack:
            count = stack.enter_context(self._reporter.counted(context))
            message = parse_message(inference_pb2.GenerateRequest, payload)
            count.model = message.model or count.model
            facts = facts_of(context, request_id=message.request_id)
            annotate(request_id=facts.request_id)
            # First of all, so that refusals carry the id as well.
            await context.send_initial_metadata(((REQUEST_ID_KEY, facts.request_id),))
            ticket = self._tickets.take(context, facts.caller)
            if ticket is not None:
                facts = replace(facts, router_id=ticket.router_id, has_ticket=True)
            ride = stack.enter_context(self._tickets.ride(ticket))
            if outlives_connection(message):
                call = self._attached(message, facts, context, timeline, stack)
                seq = 0 if facts.wants_whole and call.has(0) else first_seq_wanted(message)
                while (read := await call.read(seq)) is not None:
                    response, seq = read
                    yield response
                context.set_trailing_metadata(((FINISHED_KEY, call.finished),))
                return
            stack.enter_context(self._in_flight.call(facts.router_id))
            request = self._parse(message, facts, context, timeline)
            encoder = self._encoder(message, request, timeline)
            report = stack.enter_context(self._reporter.call(request, facts, timeline))
            batches = self._tasks["generate"].run(request, timeline)
            await stack.enter_async_context(aclosing(batches))
            async for outputs in batches:
                report.take(outputs)
                if ride.awaits_proof:
                    ride.prove()
                response = encoder.encode(outputs)
                if encoder.finished is not None:
                    context.set_trailing_metadata(((FINISHED_KEY, encoder.finished),))
                yield response

    async def abort(self, payload: bytes, context: ServicerContext) -> bytes:
        """Ends a resumable call. One that has ended is no error; a token that is not this caller's is."""
        message = parse_message(inference_pb2.AbortRequest, payload)
        facts = facts_of(context)
        call = self._resumption.by_token(message.resume_token, facts.caller)
        if call is not None:
            (self._calls.let_go if facts.lets_go else self._calls.abort)(call)
        return inference_pb2.AbortResponse().SerializeToString()

    async def tokenize(self, payload: bytes, context: ServicerContext) -> bytes:
        """The ids that Generate would see, each with its bytes."""
        message = parse_message(inference_pb2.TokenizeRequest, payload)
        with self._in_flight.call(facts_of(context).router_id):
            ids = await self._prompt_ids(message)
            tokens = await self._tokenizers.token_bytes(ids)
        return inference_pb2.TokenizeResponse(token_ids=ids, tokens=tokens).SerializeToString()

    async def detokenize(self, payload: bytes, context: ServicerContext) -> bytes:
        """The text that ids stand for."""
        message = parse_message(inference_pb2.DetokenizeRequest, payload)
        with self._in_flight.call(facts_of(context).router_id):
            validate_detokenize(message, self._limits)
            check_model(self._model, message.model)
            text = await self._tokenizers.text(parse_detokenize(message, self._model))
        return inference_pb2.DetokenizeResponse(text=text).SerializeToString()

    async def count_tokens(self, payload: bytes, context: ServicerContext) -> bytes:
        """How many tokens Generate would see."""
        message = parse_message(inference_pb2.CountTokensRequest, payload)
        with self._in_flight.call(facts_of(context).router_id):
            ids = await self._prompt_ids(message)
        return inference_pb2.CountTokensResponse(num_tokens=len(ids)).SerializeToString()

    async def list_models(self, payload: bytes, _context: ServicerContext) -> bytes:
        """The one model of this worker."""
        parse_message(inference_pb2.ListModelsRequest, payload)
        model = encode_model(self._model, tasks=tuple(self._tasks))
        return inference_pb2.ListModelsResponse(models=[model]).SerializeToString()

    def _attached(
        self,
        message: inference_pb2.GenerateRequest,
        facts: CallFacts,
        context: ServicerContext,
        timeline: Timeline,
        stack: AsyncExitStack,
    ) -> RunningCall:
        """The call that the request goes on with, joins or begins; `stack` makes this connection a listener of it."""
        request = self._parse(message, facts, context, timeline)
        call = self._resumption.find(message, facts.caller)
        stack.enter_context(self._in_flight.call(facts.router_id, joins=call is not None))
        if call is None:
            call = self._resumption.new_call(message, facts.caller)
            token = self._resumption.token_of(call) if message.resumable_ms else ""
            encoder = self._encoder(message, request, timeline, resume_token=token)
            generate = partial(self._generate_detached, request, facts, timeline, encoder)
            self._calls.start(call, generate, must=message.HasField("continuation"))
        else:
            annotate(resumed=first_seq_wanted(message))
            self._reporter.joined(by_key=not message.resume.resume_token)
        stack.enter_context(self._calls.listening(call))
        return call

    async def _generate_detached(
        self,
        request: GenerateRequest,
        facts: CallFacts,
        timeline: Timeline,
        encoder: ResponseEncoder,
        append: Append,
    ) -> bytes:
        """What `generate` does, for nobody in particular."""
        with self._reporter.detached(), self._reporter.call(request, facts, timeline) as report:
            batches = self._tasks["generate"].run(request, timeline)
            async with aclosing(batches):
                async for outputs in batches:
                    report.take(outputs)
                    append(encoder.encode(outputs), next_seq=encoder.next_seq)
        return encoder.finished or b""

    def _parse(
        self,
        message: inference_pb2.GenerateRequest,
        facts: CallFacts,
        context: ServicerContext,
        timeline: Timeline,
    ) -> GenerateRequest:
        # Where the cluster has no token everybody can make a ticket, and it proves nothing.
        has_proof = facts.has_ticket and bool(self._cluster.token.get_secret_value())
        validate_generate(
            message, self._limits, may_continue=has_proof or is_router(context, self._cluster)
        )
        return parse_generate(
            message,
            model=self._model,
            limits=self._limits,
            request_id=facts.request_id,
            arrived_at=timeline.arrived_at,
            deadline=deadline_of(
                context, now=timeline.arrived_at, deadline_s_max=self._limits.deadline_s_max
            ),
            new_seed=_new_seed,
        )

    def _encoder(
        self,
        message: inference_pb2.GenerateRequest,
        request: GenerateRequest,
        timeline: Timeline,
        *,
        resume_token: str = "",
    ) -> ResponseEncoder:
        output = message.output
        return ResponseEncoder(
            request,
            timeline,
            model=self._model,
            worker_id=self._worker_id,
            with_token_ids=output.token_ids if output.HasField("token_ids") else True,
            printed=self._tokenizers.tokenizer.printed_bytes,
            resume_token=resume_token,
        )

    async def _prompt_ids(
        self, message: inference_pb2.TokenizeRequest | inference_pb2.CountTokensRequest
    ) -> tuple[int, ...]:
        validate_tokenize(message, self._limits)
        check_model(self._model, message.model)
        return await self._tokenizers.prompt_ids(parse_prompt(message, self._model))


def _new_seed() -> int:
    """For requests that bring none. 53 bits, so that JavaScript, whose numbers hold no more, can send it back."""
    return random.getrandbits(53)
