"""What a router tells of a call: one trace through router and worker, metrics, state of the cluster."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from common.errors import Internal
from common.rpc.metadata import TRACE_ID_KEY
from common.telemetry import names
from common.telemetry.setup import Telemetry
from lepton.v1 import inference_pb2
from router.core.endpoint import EndpointState
from tests.support.fake_worker import FakeWorker, Script, message_of
from tests.support.patience import PATIENCE_S
from tests.support.small_cluster import GENERATE, SmallCluster, small_cluster, until

GENERATE_SPAN = "lepton.v1.InferenceService/Generate"


class Recorder:
    """Finished spans, and the telemetry that makes them."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.telemetry = Telemetry(provider, self.exporter, shutdown_s_max=1.0)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def named(self, name: str, kind: str = "") -> list[ReadableSpan]:
        return [s for s in self.spans if s.name == name and s.kind.name.startswith(kind)]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.telemetry.shutdown()


async def metrics(cluster: SmallCluster) -> dict[str, float]:
    import asyncio

    await until(lambda: cluster.router.dispatcher.in_flight == 0)
    url = f"http://127.0.0.1:{cluster.router.metrics_port}/metrics"

    def read() -> str:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as response:
            return str(response.read().decode())

    text = await asyncio.to_thread(read)
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return {key: float(value) for key, _, value in (line.rpartition(" ") for line in lines)}


async def test_one_call_is_one_trace_from_client_through_router_to_worker(
    recorder: Recorder,
) -> None:
    async with small_cluster(FakeWorker("w1"), telemetry=recorder.telemetry, id="r1") as cluster:
        answer = await cluster.ask(request_id="abc")
        await until(lambda: len(recorder.named(GENERATE_SPAN)) == 2)
        (server,) = recorder.named(GENERATE_SPAN, "SERVER")
        (client,) = recorder.named(GENERATE_SPAN, "CLIENT")
        (route,) = recorder.named(names.ROUTE_SPAN)
        trace_id = f"{server.context.trace_id:032x}"
        assert answer.initial[TRACE_ID_KEY] == trace_id
        assert {s.context.trace_id for s in (client, route)} == {server.context.trace_id}
        for child in (client, route):
            assert child.parent is not None
            assert child.parent.span_id == server.context.span_id
        (seen,) = cluster.workers["w1"].calls
        traceparent = seen.metadata["traceparent"]
        assert traceparent.startswith(f"00-{trace_id}-{client.context.span_id:016x}-")
        assert route.attributes is not None
        assert route.attributes[names.LEPTON_WORKER_ID] == "w1"
        assert route.attributes[names.LEPTON_CANDIDATES] == 1
        assert route.attributes[names.LEPTON_ATTEMPT] == 1
        assert route.attributes[names.LEPTON_SNAPSHOT_STALE] is False
        assert route.attributes[names.LEPTON_SNAPSHOT_AGE_S] == 0
        assert server.attributes is not None
        assert server.attributes[names.LEPTON_REQUEST_ID] == "abc"


async def test_each_attempt_has_its_route_span(recorder: Recorder) -> None:
    bad = FakeWorker("bad", script=Script(messages=0, error=Internal("x")))
    async with small_cluster(
        bad, FakeWorker("good"), telemetry=recorder.telemetry, policy="least_loaded"
    ) as cluster:
        cluster.workers["good"].report(running=1)
        await until(lambda: cluster.endpoints()["good"].load.running == 1)
        assert (await cluster.ask()).error is None
        routes = recorder.named(names.ROUTE_SPAN)
        chosen = [(s.attributes or {})[names.LEPTON_WORKER_ID] for s in routes]
        assert chosen == ["bad", "good"]
        assert [(s.attributes or {})[names.LEPTON_ATTEMPT] for s in routes] == [1, 2]
        found = await metrics(cluster)
        assert found['lepton_retries_total{reason="INTERNAL"}'] == 1


async def test_refused_call_says_why_in_its_span(recorder: Recorder) -> None:
    async with small_cluster(FakeWorker("w1"), telemetry=recorder.telemetry) as cluster:
        await cluster.ask(model="huge")
        await until(lambda: bool(recorder.named(GENERATE_SPAN, "SERVER")))
        (route,) = recorder.named(names.ROUTE_SPAN)
        assert (route.attributes or {})[names.LEPTON_REASON] == "MODEL_NOT_FOUND"
        (server,) = recorder.named(GENERATE_SPAN, "SERVER")
        assert (server.attributes or {})[names.LEPTON_REASON] == "MODEL_NOT_FOUND"


async def test_cancelled_call_is_recorded_as_cancelled(recorder: Recorder) -> None:
    script = Script(messages=1, hang=True)
    async with small_cluster(
        FakeWorker("w1", script=script), telemetry=recorder.telemetry
    ) as cluster:
        payload = inference_pb2.GenerateRequest(model="tiny", text="x").SerializeToString()
        call: Any = cluster.channel.unary_stream(GENERATE)(payload)
        await call.read()
        call.cancel()
        await until(lambda: len(recorder.named(GENERATE_SPAN)) == 2)
        codes = {
            s.kind.name: (s.attributes or {})[names.RPC_RESPONSE_STATUS_CODE]
            for s in recorder.named(GENERATE_SPAN)
        }
        assert codes == {"SERVER": "CANCELLED", "CLIENT": "CANCELLED"}
        found = await metrics(cluster)
        assert found['lepton_requests_total{code="CANCELLED",model="tiny"}'] == 1


async def test_metrics_count_calls_by_code_and_bound_the_model_label() -> None:
    async with small_cluster(FakeWorker("w1"), FakeWorker("w2")) as cluster:
        await cluster.ask()
        await cluster.ask(model="huge")
        await cluster.ask(model="larger")
        await cluster.ask(text="")
        found = await metrics(cluster)
        assert found['lepton_requests_total{code="OK",model="tiny"}'] == 1
        assert found['lepton_requests_total{code="NOT_FOUND",model="unknown"}'] == 2
        assert found['lepton_requests_total{code="INVALID_ARGUMENT",model="unknown"}'] == 1
        assert found["lepton_requests_in_flight"] == 0
        assert found["lepton_time_to_first_message_seconds_count"] == 1
        assert found["lepton_route_seconds_count"] == 1


async def test_metrics_show_the_workers_and_the_age_of_the_list() -> None:
    async with small_cluster(FakeWorker("w1"), FakeWorker("w2")) as cluster:
        await cluster.workers["w1"].kill()
        await cluster.until_state("w1", EndpointState.LOST)
        cluster.registry.go_away()
        await until(lambda: cluster.router.pool.snapshot().stale)
        found: dict[str, float] = {}
        while not found.get("lepton_snapshot_age_seconds"):  # set at the next sweep
            found = await metrics(cluster)
        assert found['lepton_endpoints{state="ready"}'] == 1
        assert found['lepton_endpoints{state="lost"}'] == 1
        assert found["lepton_snapshot_stale"] == 1


async def test_migration_is_counted_and_shown_in_the_trace(recorder: Recorder) -> None:
    whole = Script(story=9)
    cut = Script(story=9, stops_after=4, finished=False)
    bad, good = FakeWorker("bad", script=cut), FakeWorker("good", script=whole)
    async with small_cluster(
        bad, good, telemetry=recorder.telemetry, policy="least_loaded"
    ) as cluster:
        good.report(running=1)
        await until(lambda: cluster.endpoints()["good"].load.running == 1)
        assert (await cluster.ask()).error is None
        routes = recorder.named(names.ROUTE_SPAN)
        assert [(s.attributes or {})[names.LEPTON_ATTEMPT] for s in routes] == [1, 2]
        found = await metrics(cluster)
        assert found['lepton_migrations_total{reason="WORKER_LOST"}'] == 1
        assert found["lepton_migration_gap_seconds_count"] == 1
        assert found["lepton_suspects"] == 0
        assert found["lepton_convictions_total"] == 0
        assert 'lepton_retries_total{reason="WORKER_LOST"}' not in found


async def test_worker_that_breaks_the_rules_is_counted_and_in_the_end_ejected(
    recorder: Recorder,
) -> None:
    story = [message_of("w1", seq) for seq in (0, 1, 3)]
    worker, other = FakeWorker("w1", script=Script(messages=story)), FakeWorker("w2")
    settings: dict[str, Any] = {"migrations_max": 0, "eject_failures_max": 3}
    async with small_cluster(worker, telemetry=recorder.telemetry, **settings) as cluster:
        for _ in range(3):
            assert (await cluster.ask()).error is not None
        assert (await metrics(cluster))['lepton_stream_faults_total{fault="gap"}'] == 3
        await cluster.add(other)
        await cluster.until_state("w1", EndpointState.EJECTED)
        await other.stop()


async def test_the_choice_says_why_on_its_span_and_affinity_is_counted(recorder: Recorder) -> None:
    workers = [FakeWorker(f"w{n}") for n in range(3)]
    async with small_cluster(*workers, telemetry=recorder.telemetry) as cluster:
        for _ in range(2):
            await cluster.ask(text="d" * 4096)
        first, second = (dict(span.attributes or {}) for span in recorder.named(names.ROUTE_SPAN))
        assert (first[names.LEPTON_PROMPT_BYTES], first[names.LEPTON_KNOWN_BYTES]) == (4096, 0)
        assert second[names.LEPTON_KNOWN_BYTES] == 4096
        assert second[names.LEPTON_CANDIDATES] == 3
        assert second[names.LEPTON_SCORED] in {2, 3}
        scores = second[names.LEPTON_SCORES]
        assert isinstance(scores, tuple)
        assert "prefix=1.000" in scores
        assert len(scores) == 4
        found = await metrics(cluster)
        assert found["lepton_affinity_hits_total"] == 1
        assert found["lepton_routed_prompt_bytes_total"] == 8192
        assert found["lepton_routed_known_bytes_total"] == 4096
