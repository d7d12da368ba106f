"""How a client behaves, and the calls that follow from it. Pure but for the clock that is handed in."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final, TypedDict, final

import grpc
from google.protobuf.message import Message

from lepton.v1 import inference_pb2
from lepton_client.asking import Asking, Deadline, ask_unary
from lepton_client.direct import SILENCE_S, DirectCall
from lepton_client.moves import LOSSES_MAX
from lepton_client.reconnection import Reconnection
from lepton_client.relayed import RelayedCall
from lepton_client.retry import ResumePolicy, RetryBudget, RetryPolicy
from lepton_client.routers import Route, Routers
from lepton_client.steps import Pairs, Reply, Step
from lepton_client.tracing import trace_metadata

__all__ = ["TIMEOUT_S", "Calls", "ClientOptions"]

TIMEOUT_S: Final = 600.0
_ABORT_S: Final = 5.0
_CALLER_KEY: Final = "lepton-caller"
_KEY_KEY: Final = "authorization"


class ClientOptions(TypedDict, total=False):
    """Keywords of both clients; all optional."""

    timeout_s: float
    """For a whole call, retries and resumptions included, seconds. Default 600."""
    retry: bool | RetryPolicy
    """Whether and how a call is asked again before its first event. Default True."""
    resume: bool | ResumePolicy
    """A stream that is cut after its first event goes on where it was, through any router. Default False."""
    direct: bool
    """Streams come straight from the workers, whose addresses must be reachable. Default False. Not with `resume`."""
    silence_s: float
    """Direct mode: a worker that says nothing for so long in the middle of a stream is given up. Default 10."""
    losses_max: int
    """Direct mode: workers that one stream may lose and still go on; 0: it never moves. Default 2."""
    on_reconnect: Callable[[Reconnection], None]
    """Called by whoever iterates, each time that a stream is asked for again or goes on elsewhere."""
    api_key: str
    """Sent as `authorization: Bearer …`."""
    caller: str
    """On whose behalf: callers share a full cluster fairly. At most 128 printable characters without spaces."""
    metadata: Mapping[str, str] | Sequence[tuple[str, str]]
    """Further gRPC metadata of every call; keys in lower case."""
    credentials: grpc.ChannelCredentials | None
    """TLS (`tls(…)`, or any of gRPC's). Default None: plaintext."""
    traceparent: Callable[[], str | None]
    """Called for every call: the W3C trace context to send. Default: OpenTelemetry's, where the program uses it."""


@final
class Calls:
    """Makes the cores of calls. Raises `ValueError` for options that cannot hold together."""

    def __init__(
        self, addresses: Sequence[str], options: ClientOptions, now: Callable[[], float]
    ) -> None:
        resume = options.get("resume", False)
        self._resume = ResumePolicy() if resume is True else resume or None
        self._direct = options.get("direct", False)
        if self._direct and self._resume:
            raise ValueError("resume goes through routers, direct does not: leave one of them out")
        self._routers = Routers(addresses)
        retry = options.get("retry", True)
        one = RetryPolicy(attempts_max=1)
        self._policy = retry if isinstance(retry, RetryPolicy) else RetryPolicy() if retry else one
        self._budget = RetryBudget(self._policy)
        self._timeout_s = options.get("timeout_s", TIMEOUT_S)
        self._metadata = _metadata(options)
        self._traceparent = options.get("traceparent")
        self._on_reconnect = options.get("on_reconnect")
        self._silence_s = options.get("silence_s", SILENCE_S)
        self._losses_max = options.get("losses_max", LOSSES_MAX)
        self._now = now
        self._rng = random.Random()

    def generate(
        self, request: inference_pb2.GenerateRequest, timeout_s: float | None
    ) -> RelayedCall | DirectCall:
        """One Generate. ValueError when `timeout_s` is not above 0."""
        asking = self._asking(timeout_s)
        if self._direct:
            return DirectCall(
                asking, request, silence_s=self._silence_s, losses_max=self._losses_max
            )
        return RelayedCall(asking, request, resume=self._resume)

    def unary(
        self, method: str, request: Message, timeout_s: float | None
    ) -> Generator[Step, Reply, Any]:
        """One call of another method."""
        return ask_unary(self._asking(timeout_s), method, request)

    def abort(self, request: inference_pb2.AbortRequest) -> Generator[Step, Reply, Any]:
        """Ends a resumable call."""
        return ask_unary(self._asking(_ABORT_S), "Abort", request)

    def _asking(self, timeout_s: float | None) -> Asking:
        self._budget.count_call()
        return Asking(
            route=Route(self._routers),
            policy=self._policy,
            budget=self._budget,
            metadata=(*self._metadata, *trace_metadata(self._traceparent)),
            deadline=Deadline(self._timeout_s if timeout_s is None else timeout_s, self._now),
            rng=self._rng,
            on_reconnect=self._on_reconnect,
        )


def _metadata(options: ClientOptions) -> Pairs:
    more = options.get("metadata", ())
    pairs = tuple(more.items() if isinstance(more, Mapping) else more)
    if caller := options.get("caller"):
        pairs = (*pairs, (_CALLER_KEY, caller))
    if key := options.get("api_key"):
        pairs = (*pairs, (_KEY_KEY, f"Bearer {key}"))
    return pairs
