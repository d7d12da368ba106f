"""What is counted when a call ends."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from common.clock import SystemClock
from common.errors import Overloaded
from common.telemetry.instruments import WorkerInstruments
from worker.tasks.api import ModelFacts
from worker.transport.call_report import CallReporter


class Context:
    """A call with so many seconds left; None: as many as it likes."""

    def __init__(self, remaining_s: float | None = None) -> None:
        self._remaining_s = remaining_s

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def peer(self) -> str:
        return ""

    def time_remaining(self) -> float | None:
        return self._remaining_s

    async def send_initial_metadata(self, metadata: object) -> None:
        raise AssertionError

    def set_trailing_metadata(self, metadata: object) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("error", "remaining_s", "code", "reason"),
    [
        (Overloaded("full"), None, "RESOURCE_EXHAUSTED", "QUEUE_FULL"),
        (RuntimeError("a bug"), None, "INTERNAL", "INTERNAL"),
        (asyncio.CancelledError(), None, "CANCELLED", "CLIENT_GONE"),
        (asyncio.CancelledError(), 9.0, "CANCELLED", "CLIENT_GONE"),
        (asyncio.CancelledError(), 0.0, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
        (GeneratorExit(), None, "CANCELLED", "CLIENT_GONE"),
        (grpc.aio.UsageError("the client is gone"), None, "CANCELLED", "CLIENT_GONE"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_a_call_is_counted_once_under_its_code(
    error: BaseException, remaining_s: float | None, code: str, reason: str
) -> None:
    registry = CollectorRegistry()
    reporter = CallReporter(
        tracer=TracerProvider(shutdown_on_exit=False).get_tracer("test"),
        instruments=WorkerInstruments(registry),
        model=ModelFacts(
            name="fake",
            revision="",
            context_length=8,
            vocab_size=8,
            eos_ids=frozenset(),
            fingerprint="",
        ),
        worker_id="w",
        clock=SystemClock(),
    )
    with pytest.raises(type(error)), reporter.counted(Context(remaining_s)):
        raise error
    counted = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name in {"lepton_requests_total", "lepton_errors_total"}
    }
    assert counted == {
        ("lepton_requests_total", "fake", code): 1.0,
        ("lepton_errors_total", reason): 1.0,
    }
