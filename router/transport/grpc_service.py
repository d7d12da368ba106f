"""`lepton.v1.InferenceService` of a router: parse once, check, relay the bytes as they are."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, TypeVar, final

import grpc

from common.clock import Clock
from common.limits import Limits
from common.request.parse import parse_message
from common.request.pick import validate_pick
from common.request.request_id import is_request_id
from common.request.resumption import outlives_connection
from common.request.validate import (
    validate_detokenize,
    validate_generate,
    validate_tokenize,
)
from common.rpc.caller import caller_metadata, caller_of
from common.rpc.metadata import FINISHED_KEY, REQUEST_ID_KEY
from lepton.v1 import inference_pb2
from router.core.alias import Aliases
from router.core.call import Call, RoutingView
from router.core.direct import Wish
from router.core.dispatcher import Dispatcher
from router.core.pool import EndpointPool
from router.core.ports import GenerateCodec
from router.core.route import Route
from router.transport.cost_of import cost_of
from router.transport.models_of import models_of
from router.transport.outlet import Outlets
from router.transport.rejoin import Rejoin
from router.transport.rename import NamedRequest, renamed
from router.transport.ticket_office import TicketOffice, origin_of
from router.transport.view_of import view_of_generate, view_of_model

__all__ = ["SERVICE", "InferenceRelay"]

SERVICE: Final = "lepton.v1.InferenceService"

Done = Callable[[Route, BaseException | None], None]
"""Called once per call, inside it: what happened on its way, and what it raised."""

AskRequest = TypeVar(
    "AskRequest",
    inference_pb2.TokenizeRequest,
    inference_pb2.DetokenizeRequest,
    inference_pb2.CountTokensRequest,
)


@final
class InferenceRelay:
    """The handlers. Errors are raised as `LeptonError`; the error interceptor turns them into a status.

    Cancellation: a client that goes away cancels the handler, and with it the call on the worker, which computes on if
    the call is resumable.
    """

    def __init__(
        self,
        *,
        dispatcher: Dispatcher,
        pool: EndpointPool,
        codec: GenerateCodec,
        rejoin: Rejoin,
        office: TicketOffice,
        aliases: Aliases,
        outlets: Outlets,
        limits: Limits,
        prefix_hashes_max: int,
        clock: Clock,
        done: Done,
    ) -> None:
        self._dispatcher = dispatcher
        self._pool = pool
        self._codec = codec
        self._rejoin = rejoin
        self._office = office
        self._aliases = aliases
        self._outlets = outlets
        self._limits = limits
        self._prefix_hashes_max = prefix_hashes_max
        self._clock = clock
        self._done = done

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """Method name → handler, for `RpcServer.add_service`."""
        return {
            # A coroutine that writes, not a generator: nothing stands between two messages.
            "Generate": grpc.unary_stream_rpc_method_handler(self.generate),
            "Pick": grpc.unary_unary_rpc_method_handler(self.pick),
            "Tokenize": grpc.unary_unary_rpc_method_handler(self.tokenize),
            "Detokenize": grpc.unary_unary_rpc_method_handler(self.detokenize),
            "Abort": grpc.unary_unary_rpc_method_handler(self.abort),
            "CountTokens": grpc.unary_unary_rpc_method_handler(self.count_tokens),
            "ListModels": grpc.unary_unary_rpc_method_handler(self.list_models),
        }

    async def generate(self, payload: bytes, context: Any) -> None:
        """Relays one Generate; the worker's bytes reach the client unchanged."""
        with self._watched() as route:
            request = parse_message(inference_pb2.GenerateRequest, payload)
            payload, view, call = self._accepted(request, payload, context, route)
            await context.send_initial_metadata(((REQUEST_ID_KEY, route.request_id),))
            async with self._outlets.open(context.write) as outlet:
                if outlives_connection(request):
                    finished = await self._rejoin.generate(
                        request,
                        call,
                        view,
                        outlet.write,
                        route,
                        caller=caller_of(context),
                        send=lambda call, view, write: self._dispatcher.generate(
                            payload, view, call, write, route
                        ),
                    )
                else:
                    finished = await self._dispatcher.generate(
                        payload, view, call, outlet.write, route
                    )
            context.set_trailing_metadata(((FINISHED_KEY, finished),))

    async def pick(self, payload: bytes, context: Any) -> bytes:
        """Admits and places a Generate like `generate`, and hands out a ticket for its worker."""
        with self._watched() as route:
            asked = parse_message(inference_pb2.PickRequest, payload)
            validate_pick(asked)
            caller = caller_of(context)
            failed = self._office.read_failed(asked, caller)
            request = asked.request
            payload, view, call = self._accepted(
                request, request.SerializeToString(), context, route
            )
            if (origin := origin_of(asked)) is not None:
                view = replace(view, model=origin.model, revision=origin.revision)
            await context.send_initial_metadata(((REQUEST_ID_KEY, route.request_id),))
            handout = await self._dispatcher.direct.pick(
                Wish(
                    view=view,
                    call=call,
                    route=route,
                    fingerprint=lambda: self._codec.fingerprint(payload),
                    tried=[(ticket.worker_id, ticket.incarnation) for ticket in failed],
                    failed=self._office.own(failed),
                    origin=origin,
                )
            )
            return self._office.hand_out(handout, caller).SerializeToString()

    async def abort(self, payload: bytes, context: Any) -> bytes:
        """Passes it on to the worker of the token."""
        with self._watched() as route:
            request = parse_message(inference_pb2.AbortRequest, payload)
            call = self._call(context, "", route)
            view = self._rejoin.view_of_token(
                request.resume_token, caller_of(context), view_of_model("")
            )
            return await self._dispatcher.unary("Abort", payload, view, call, route)

    async def tokenize(self, payload: bytes, context: Any) -> bytes:
        """Asks one worker of the model."""
        request = inference_pb2.TokenizeRequest
        return await self._ask("Tokenize", request, validate_tokenize, payload, context)

    async def detokenize(self, payload: bytes, context: Any) -> bytes:
        """Asks one worker of the model."""
        request = inference_pb2.DetokenizeRequest
        return await self._ask("Detokenize", request, validate_detokenize, payload, context)

    async def count_tokens(self, payload: bytes, context: Any) -> bytes:
        """Asks one worker of the model."""
        request = inference_pb2.CountTokensRequest
        return await self._ask("CountTokens", request, validate_tokenize, payload, context)

    async def list_models(self, payload: bytes, context: Any) -> bytes:
        """Answers from the pool."""
        parse_message(inference_pb2.ListModelsRequest, payload)
        return models_of(self._pool.snapshot(), self._aliases.targets).SerializeToString()

    async def _ask(
        self,
        method: str,
        cls: type[AskRequest],
        validate: Callable[[AskRequest, Limits], None],
        payload: bytes,
        context: Any,
    ) -> bytes:
        with self._watched() as route:
            request = parse_message(cls, payload)
            validate(request, self._limits)
            call = self._call(context, request.model, route)
            payload, view = self._meant(payload, view_of_model(request.model), cls)
            return await self._dispatcher.unary(method, payload, view, call, route)

    def _accepted(
        self, request: inference_pb2.GenerateRequest, payload: bytes, context: Any, route: Route
    ) -> tuple[bytes, RoutingView, Call]:
        """A Generate as the dispatcher takes it. Raises the typed error of its first fault."""
        # Before the verdict: a refusal is written down, and asked about, by its id as well.
        given = request.request_id
        route.request_id = given if is_request_id(given) else uuid.uuid4().hex
        validate_generate(request, self._limits, may_continue=False)
        view = view_of_generate(
            request,
            caller=caller_of(context),
            cost=cost_of(request, len(payload), self._limits),
            prefix_hashes_max=self._prefix_hashes_max,
        )
        hides_ids = request.output.HasField("token_ids") and not request.output.token_ids
        call = self._call(
            context,
            view.model,
            route,
            hides_token_ids=hides_ids,
            is_resumed=request.HasField("resume"),
        )
        route.prompt_bytes = view.prefix.num_bytes
        payload, view = self._meant(payload, view, inference_pb2.GenerateRequest)
        return payload, view, call

    def _meant(
        self, payload: bytes, view: RoutingView, message: type[NamedRequest]
    ) -> tuple[bytes, RoutingView]:
        return renamed(payload, view, self._aliases, self._pool.snapshot(), message)

    @contextmanager
    def _watched(self) -> Iterator[Route]:
        """Tells `done` how a call ended, exactly once."""
        route = Route(started_at=self._clock.now())
        try:
            yield route
        except BaseException as error:
            self._done(route, error)
            raise
        self._done(route, None)

    def _call(
        self,
        context: Any,
        model: str,
        route: Route,
        *,
        hides_token_ids: bool = False,
        is_resumed: bool = False,
    ) -> Call:
        remaining_s: float | None = context.time_remaining()
        deadline_s = self._limits.deadline_s_max
        if remaining_s is not None:
            deadline_s = min(remaining_s, deadline_s)
        route.model = model
        route.request_id = route.request_id or uuid.uuid4().hex
        route.deadline = self._clock.now() + deadline_s
        return Call(
            request_id=route.request_id,
            deadline=route.deadline,
            metadata=(
                (REQUEST_ID_KEY, route.request_id),
                *caller_metadata(caller_of(context)),
            ),
            hides_token_ids=hides_token_ids,
            is_resumed=is_resumed,
        )
