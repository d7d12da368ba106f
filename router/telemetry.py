"""What a router tells of its calls and its workers: spans, metrics, and the fields of the call's log line."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final, final

import grpc
from opentelemetry.trace import Span, Status, StatusCode, Tracer, get_current_span

from common.clock import Clock
from common.errors import LeptonError, Reason
from common.rpc.interceptors import annotate
from common.rpc.status import codes_of
from common.telemetry import names
from common.telemetry.instruments import RouterInstruments
from router.core.admission.demand import band_of
from router.core.call import RoutingView
from router.core.endpoint import EndpointState
from router.core.health.outliers import Ejection
from router.core.policy.api import Choice
from router.core.pool import PoolSnapshot
from router.core.route import Route

__all__ = ["RouterTelemetry"]

_DEADLINE_SLACK_S: Final = 0.05
"""A client resets its call at the deadline, which arrives a little before our own clock says so."""


@final
class RouterTelemetry:
    """The `RouteObserver` and `AdmissionObserver` of a running router, the `done` of its surfaces, the `on_tick` of its
    membership.
    """

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
            if route.choice is not None:
                self._tell_choice(span, route.choice, route)
            span.set_attribute(names.LEPTON_CANDIDATES, route.num_candidates)
            span.set_attribute(names.LEPTON_SNAPSHOT_STALE, route.is_stale)
            span.set_attribute(names.LEPTON_SNAPSHOT_AGE_S, route.snapshot_age_s)
            span.set_attribute(names.LEPTON_WAITED_S, route.waited_s)
        if route.num_retries == 0 and route.num_migrations == 0:
            self._instruments.route_seconds.observe(self._clock.now() - route.started_at)

    @contextmanager
    def queueing(self, route: Route, predicted_s: float | None) -> Iterator[None]:
        """See `AdmissionObserver.queueing`."""
        with self._tracer.start_as_current_span(
            names.ADMISSION_SPAN, record_exception=False, set_status_on_exception=False
        ) as span:
            if predicted_s is not None:
                span.set_attribute(names.LEPTON_PREDICTED_S, predicted_s)
                self._instruments.queue_predicted_seconds.observe(predicted_s)
            try:
                yield
            except LeptonError as error:
                span.set_attribute(names.LEPTON_REASON, error.reason.value)
                span.set_status(Status(StatusCode.ERROR, error.message))
                raise
            finally:
                span.set_attribute(names.LEPTON_QUEUED_S, route.queued_s)

    def admitted(self, route: Route, view: RoutingView) -> None:
        """See `AdmissionObserver.admitted`."""
        band = band_of(view.priority).name.lower()
        self._instruments.queue_wait_seconds.labels(band=band).observe(route.queued_s)

    def refused(self, error: LeptonError) -> None:
        """See `AdmissionObserver.refused`."""
        self._instruments.refusals_total.labels(reason=error.reason.value).inc()

    def done(self, route: Route, error: BaseException | None) -> None:
        """A call has ended; runs inside it, so that its span and log line are the current ones."""
        self._count(route, error)
        span = get_current_span()
        annotate(model=route.model, retries=route.num_retries)
        if route.request_id:  # else the bytes were none of a request, and the door's own id stays
            annotate(request_id=route.request_id)
            span.set_attribute(names.LEPTON_REQUEST_ID, route.request_id)
        if route.num_migrations:
            annotate(migrations=route.num_migrations)
        if route.stream_faults:
            by = [worker for worker, reason in route.failures if reason == Reason.STREAM_FAULT]
            annotate(stream_faults=route.stream_faults, stream_faults_by=by)
        span.set_attribute(names.GEN_AI_REQUEST_MODEL, route.model)
        if route.queued_s:
            annotate(queued_s=round(route.queued_s, 4))
            span.set_attribute(names.LEPTON_QUEUED_S, route.queued_s)
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

    def trouble(
        self, *, frozen: Collection[tuple[str, str]], ejections_ignored: int, bad_values: int
    ) -> None:
        """What the pool and the registry have to complain of; called with each `tick`."""
        models = Counter(trouble for _, trouble in frozen)
        for trouble in ("silent", "missing"):
            self._instruments.models_frozen.labels(trouble=trouble).set(models[trouble])
        self._instruments.ejections_ignored.set(ejections_ignored)
        self._instruments.registry_bad_values.set(bad_values)

    def ejected(self, news: Ejection) -> None:
        """A worker was set aside, or is back."""
        if news.why:
            self._instruments.ejections_total.labels(cause=news.cause.value).inc()

    def _tell_choice(self, span: Span, choice: Choice, route: Route) -> None:
        scores = [f"{name}={score:.3f}" for name, score in choice.scores.items()]
        span.set_attribute(names.LEPTON_SCORED, choice.num_scored)
        span.set_attribute(names.LEPTON_SCORES, scores)
        span.set_attribute(names.LEPTON_PROMPT_BYTES, route.prompt_bytes)
        span.set_attribute(names.LEPTON_KNOWN_BYTES, route.known_bytes)
        self._instruments.routed_prompt_bytes_total.inc(route.prompt_bytes)
        if route.known_bytes:
            self._instruments.affinity_hits_total.inc()
            self._instruments.routed_known_bytes_total.inc(route.known_bytes)

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
        for fault in route.stream_faults:
            self._instruments.stream_faults_total.labels(fault=fault).inc()
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
