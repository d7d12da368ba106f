"""One section of settings, as the bounds of the parts of a router."""

from __future__ import annotations

from common.call_ticket import CLOCK_LEEWAY_S
from common.request.migration import MigrationLimits
from router.core.admission.limits import AdmissionLimits
from router.core.dispatcher import DispatchLimits
from router.core.health.outliers import HealthLimits
from router.core.quarantine import QuarantineLimits
from router.core.retry import RetryLimits
from router.settings import RouterSettings
from router.transport.outlet import OutletLimits
from router.upstream.load_feed import LoadFeedLimits

__all__ = ["admission_limits", "dispatch_limits", "feed_limits", "health_limits", "outlet_limits"]


def dispatch_limits(settings: RouterSettings) -> DispatchLimits:
    """Of retries, migrations and quarantine."""
    return DispatchLimits(
        wait_for_worker_s_max=settings.wait_for_worker_s_max,
        retry=RetryLimits(
            retries_max=settings.retries_max,
            budget_ratio=settings.retry_budget_ratio,
            budget_per_s=settings.retry_budget_per_s,
            budget_burst=settings.retry_budget_burst,
        ),
        migration=MigrationLimits(
            migrations_max=settings.migrations_max,
            hand_overs_max=settings.hand_overs_max,
            refusals_max=settings.retries_max,
        ),
        quarantine=QuarantineLimits(
            quarantine_s=settings.quarantine_s,
            calm_s=settings.quarantine_calm_s,
            entries_max=settings.quarantine_entries_max,
        ),
        transcript_bytes_max=settings.transcript_bytes_max,
        death_verdict_s=settings.death_verdict_s,
        ticket_s=settings.ticket_s + CLOCK_LEEWAY_S,
    )


def health_limits(settings: RouterSettings) -> HealthLimits:
    """Of outlier ejection."""
    return HealthLimits(
        failures_in_a_row_max=settings.eject_failures_max,
        success_ratio_min=settings.eject_success_ratio_min,
        calls_min=settings.eject_calls_min,
        window_s=settings.eject_window_s,
        slow_factor=settings.eject_slow_factor,
        ejection_s=settings.eject_s,
        ejection_s_max=settings.eject_s_max,
        ejected_share_max=settings.eject_share_max,
    )


def admission_limits(settings: RouterSettings) -> AdmissionLimits:
    """Of the queue in front of the workers."""
    return AdmissionLimits(
        in_flight_max=settings.in_flight_max,
        look_ahead=settings.look_ahead,
        blind_max=settings.blind_max,
        waiting_max=settings.queue_max,
        waiting_bytes_max=settings.queue_bytes_max,
        waiting_of_caller_max=settings.queue_per_caller_max,
        callers_max=settings.queue_callers_max,
        wait_s_max=settings.queue_s_max,
        wait_answers_max=settings.queue_answers_max,
        no_worker_s_max=settings.wait_for_worker_s_max,
        ageing_s=settings.queue_ageing_s,
        quantum=settings.queue_quantum_tokens,
    )


def outlet_limits(settings: RouterSettings) -> OutletLimits:
    """Of what waits for slow readers."""
    return OutletLimits(
        stream_bytes_max=settings.outlet_bytes_max,
        total_bytes_max=settings.outlets_bytes_max,
        silence_s_max=settings.slow_reader_s,
    )


def feed_limits(settings: RouterSettings) -> LoadFeedLimits:
    """Of the load streams."""
    return LoadFeedLimits(
        interval_ms=settings.load_interval_ms,
        silence_s_max=settings.abandon_s,
        reconnect_s_min=settings.load_reconnect_s_min,
        reconnect_s_max=settings.load_reconnect_s_max,
    )
