"""Traces of one process: sampler, resource, bounded queue, exporter.

Spans go to the OTLP endpoint of `OTEL_EXPORTER_OTLP_ENDPOINT`, else to files in `telemetry.trace_dir`, else
nowhere. Whatever becomes of the exporter, a call never waits for it: finished spans go into a bounded queue that a
thread empties, a full queue pushes out the oldest, and the end of the process waits `shutdown_s_max` at most. No
global provider is set: the tracer is handed to whoever needs it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Final, final

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Tracer

from common.clock import Clock, SystemClock
from common.errors import Conflict, Reason
from common.logs import get_logger
from common.release import release
from common.telemetry.files import FileSpanExporter, prune_span_files
from common.telemetry.settings import TelemetrySettings
from common.telemetry.unrecorded import UnrecordedTracer

__all__ = ["OTLP_ENDPOINT", "ReportingExporter", "Telemetry", "setup_telemetry"]

OTLP_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"

ATTRIBUTE_CHARS_MAX: Final = 1024
"""Longest text attribute; callers choose some of them."""

WARN_EVERY_S: Final = 60.0

# These say the same for each failed attempt; ReportingExporter says it once a minute.
_EXPORT_LOGGERS: Final = (
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
)

_QUEUE_LOGGER: Final = "opentelemetry.sdk._shared_internal"
"""Says for each span that a full queue pushed out one."""

log = get_logger(__name__)


@final
class Telemetry:
    """The tracer of a process and the way to end it."""

    def __init__(
        self,
        provider: TracerProvider,
        exporter: SpanExporter | None,
        *,
        shutdown_s_max: float,
        tracer: Tracer | None = None,
    ) -> None:
        """`tracer`: another one than that of `provider`."""
        self._provider = provider
        self._exporter = exporter
        self._shutdown_s_max = shutdown_s_max
        self._ended = False
        self.tracer = tracer or provider.get_tracer("lepton", release())

    def shutdown(self) -> None:
        """Exports what is left and ends the export thread; blocks at most `shutdown_s_max` and half a second more.

        Safe to call twice. Spans that end later are dropped.
        """
        if self._ended:
            return
        self._ended = True
        # The SDK's own shutdown waits up to 30 s for a collector that does not answer.
        closing = threading.Thread(
            target=self._provider.shutdown, name="telemetry-shutdown", daemon=True
        )
        closing.start()
        closing.join(self._shutdown_s_max)
        if closing.is_alive() and self._exporter is not None:
            log.warning("telemetry.shutdown_cut", after_s=self._shutdown_s_max)
            self._exporter.shutdown()  # breaks off the running export and its back-off
            closing.join(0.5)


def setup_telemetry(
    settings: TelemetrySettings,
    *,
    service: str,
    instance_id: str,
    env: Mapping[str, str],
    clock: Clock | None = None,
) -> Telemetry:
    """Builds the telemetry of a process; `service` is "lepton-router" or "lepton-worker".

    Never waits for a collector. Raises `Conflict(SETTING_INVALID)` when the `OTEL_*` variables make no sense.
    """
    clock = clock or SystemClock()
    _quieten(clock)
    exporter = _exporter(settings, service, instance_id, env, clock)
    resource = Resource.create(
        {
            "service.name": service,
            "service.instance.id": instance_id,
            "service.version": release(),
        }
    )
    by_ratio = TraceIdRatioBased(settings.sample_ratio)
    provider = TracerProvider(
        sampler=ParentBased(by_ratio),
        resource=resource,
        shutdown_on_exit=False,  # ours is bounded
        span_limits=SpanLimits(max_attribute_length=ATTRIBUTE_CHARS_MAX),
    )
    if exporter is not None:
        processor = BatchSpanProcessor(
            exporter,
            max_queue_size=settings.queue_spans_max,
            schedule_delay_millis=settings.flush_ms,
            max_export_batch_size=min(settings.batch_spans_max, settings.queue_spans_max),
        )
        provider.add_span_processor(processor)
    return Telemetry(
        provider,
        exporter,
        shutdown_s_max=settings.shutdown_s_max,
        tracer=None if exporter else UnrecordedTracer(by_ratio),
    )


def _exporter(
    settings: TelemetrySettings,
    service: str,
    instance_id: str,
    env: Mapping[str, str],
    clock: Clock,
) -> SpanExporter | None:
    endpoint = env.get(OTLP_ENDPOINT, "").strip()
    if endpoint:
        protocol = env.get("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        if protocol != "grpc":
            log.warning("telemetry.protocol_ignored", wanted=protocol, used="grpc")
        try:
            otlp = OTLPSpanExporter(
                endpoint=endpoint,
                headers=env.get("OTEL_EXPORTER_OTLP_HEADERS"),
                timeout=settings.export_s_max,
            )
        except Exception as error:  # whatever the OTEL_* variables made of it
            raise Conflict(
                f"the OTLP exporter for {endpoint} cannot be set up: {error}",
                reason=Reason.SETTING_INVALID,
            ) from error
        return ReportingExporter(otlp, endpoint=endpoint, clock=clock)
    if settings.trace_dir is not None:
        prune_span_files(settings.trace_dir, bytes_max=settings.trace_dir_bytes_max)
        return FileSpanExporter(
            settings.trace_dir,
            service=service,
            instance_id=instance_id,
            file_bytes_max=settings.trace_file_bytes_max,
        )
    return None


def _quieten(clock: Clock) -> None:
    for name in _EXPORT_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    queue_logger = logging.getLogger(_QUEUE_LOGGER)
    for old in [kept for kept in queue_logger.filters if isinstance(kept, _OnceAMinute)]:
        queue_logger.removeFilter(old)
    queue_logger.addFilter(_OnceAMinute(clock))


@final
class _OnceAMinute(logging.Filter):
    """Lets one record through, then none for a minute."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._passed_at: float | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        now = self._clock.now()
        if self._passed_at is not None and now - self._passed_at < WARN_EVERY_S:
            return False
        self._passed_at = now
        return True


@final
class ReportingExporter(SpanExporter):
    """Says that exports fail: one warning a minute with the number of lost spans, and one line when they work again."""

    def __init__(self, inner: SpanExporter, *, endpoint: str, clock: Clock) -> None:
        self._inner = inner
        self._endpoint = endpoint
        self._clock = clock
        self._lost = 0
        self._warned_at: float | None = None
        self._ended = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._inner.export(spans)
        except Exception:
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            if self._warned_at is not None:
                log.info("telemetry.export_recovered", endpoint=self._endpoint, lost=self._lost)
                self._warned_at, self._lost = None, 0
            return result
        self._lost += len(spans)
        now = self._clock.now()
        if self._warned_at is None or now - self._warned_at >= WARN_EVERY_S:
            self._warned_at = now
            log.warning("telemetry.export_failed", endpoint=self._endpoint, lost=self._lost)
        return result

    def shutdown(self) -> None:
        if not self._ended:
            self._ended = True
            self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)
