"""What a router tells of its calls and its workers: spans, metrics, and the fields of the call's log line."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, final

import grpc
from opentelemetry.trace import Status, StatusCode, Tracer, get_current_span

from common.clock import Clock
from common.errors import LeptonError
from common.rpc.interceptors import annotate
from common.rpc.status import codes_of
from common.telemetry import names
from common.telemetry.instruments import RouterInstruments
from router.core.endpoint import EndpointState
from router.core.pool import PoolSnapshot
from router.core.route import Route

__all__ = ["RouterTelemetry"]

_DEADLINE_SLACK_S: Final = 0.05
"""A client resets its call at the deadline, which arrives a little before our own clock says so."""


@final
class RouterTelemetry:
    """The `RouteObserver` of a running router, the `done` of its surfaces and the `on_tick` of its membership."""

    def __init__(self, tracer: Tracer, instruments: RouterInstruments, clock: Clock) -> None:
        self._tracer = tracer
        self._instruments = instruments
        self._clock = clock

    @contextmanager
    def choosing(self, route: Route) -> Iterator[None]:
        """See `RouteObserver.choosing`."""
        with self._tracer.start_as_current_span(
            names.ROUTE_SPAN, record_exception=False, set_status_on_exception=False
        ) as span:
            span.set_attribute(names.LEPTON_ATTEMPT, route.num_retries + route.num_migrations + 1)
            try:
                yield
            except LeptonError as error:
                span.set_attribute(names.LEPTON_REASON, error.reason.value)
                span.set_status(Status(StatusCode.ERROR, error.message))
                raise
            if route.endpoint is not None:
                span.set_attribute(names.LEPTON_WORKER_ID, route.endpoint.id)
                span.set_attribute(names.LEPTON_REVISION, route.endpoint.revision)
            span.set_attribute(names.LEPTON_CANDIDATES, route.num_candidates)
            span.set_attribute(names.LEPTON_SNAPSHOT_STALE, route.is_stale)
            span.set_attribute(names.LEPTON_SNAPSHOT_AGE_S, route.snapshot_age_s)
            span.set_attribute(names.LEPTON_WAITED_S, route.waited_s)
        if route.num_retries == 0 and route.num_migrations == 0:
            self._instruments.route_seconds.observe(self._clock.now() - route.started_at)

    def done(self, route: Route, error: BaseException | None) -> None:
        """A call has ended; runs inside it, so that its span and log line are the current ones."""
        self._count(route, error)
        span = get_current_span()
        annotate(request_id=route.request_id, model=route.model, retries=route.num_retries)
        if route.num_migrations:
            annotate(migrations=route.num_migrations)
        if route.stream_fault:
            annotate(stream_fault=route.stream_fault)
        span.set_attribute(names.LEPTON_REQUEST_ID, route.request_id)
        span.set_attribute(names.GEN_AI_REQUEST_MODEL, route.model)
        if route.endpoint is not None:
            annotate(worker_id=route.endpoint.id, messages=route.num_messages)
            span.set_attribute(names.LEPTON_WORKER_ID, route.endpoint.id)
        if isinstance(error, LeptonError):
            span.set_attribute(names.LEPTON_REASON, error.reason.value)

    def tick(self, snapshot: PoolSnapshot) -> None:
        """The pool has changed, or some time has passed."""
        self._instruments.models.set_served(snapshot.models)
        states = Counter(
            endpoint.state for endpoints in snapshot.models.values() for endpoint in endpoints
        )
        for state in EndpointState:
            self._instruments.endpoints.labels(state=state.name.lower()).set(states[state])
        self._instruments.snapshot_stale.set(snapshot.stale)
        since = snapshot.stale_since
        age_s = 0.0 if since is None else self._clock.now() - since
        self._instruments.snapshot_age_seconds.set(age_s)

    def _count(self, route: Route, error: BaseException | None) -> None:
        model = self._instruments.models.of(route.model)
        self._instruments.requests_total.labels(model=model, code=self._code(route, error)).inc()
        for _, reason in route.failures[: route.num_retries]:
            self._instruments.retries_total.labels(reason=reason).inc()
        moves = route.failures[route.num_retries :][: route.num_migrations]
        for _, reason in moves:
            self._instruments.migrations_total.labels(reason=reason).inc()
        for gap_s in route.gaps_s:
            self._instruments.migration_gap_seconds.observe(gap_s)
        if route.stream_fault:
            self._instruments.stream_faults_total.labels(fault=route.stream_fault).inc()
        if route.is_convicted:
            self._instruments.convictions_total.inc()
        if route.first_message_at is not None:
            self._instruments.time_to_first_message_seconds.observe(
                route.first_message_at - route.started_at
            )

    def _code(self, route: Route, error: BaseException | None) -> str:
        if error is None:
            return grpc.StatusCode.OK.name
        if isinstance(error, LeptonError):
            return codes_of(error).grpc.name
        if isinstance(error, asyncio.CancelledError):
            left = (route.deadline or float("inf")) - self._clock.now()
            code = "DEADLINE_EXCEEDED" if left <= _DEADLINE_SLACK_S else "CANCELLED"
            return grpc.StatusCode[code].name
        return grpc.StatusCode.INTERNAL.name
