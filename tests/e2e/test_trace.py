"""One Generate is one trace across client, router and worker, through a real OTLP sink."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.otlp import OtlpSink
from tests.support.processes import ask, user

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT_SPAN_ID = "00f067aa0ba902b7"


async def test_one_call_is_one_trace_across_the_processes(make_cluster: Any) -> None:
    async with OtlpSink() as sink:
        cluster = await make_cluster(
            workers=1, env={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{sink.address}"}
        )
        answer = await ask(
            cluster.channel(),
            user("What is 12 + 34?"),
            metadata=(("traceparent", f"00-{TRACE_ID}-{CLIENT_SPAN_ID}-01"),),
        )
        assert answer.whole
        wanted = {"lepton.route", "lepton.queue", "lepton.prefill", "lepton.decode"}
        await sink.wait_for(
            lambda spans: (
                wanted <= {s.name for s in spans if s.trace_id == TRACE_ID}
                and len([s for s in spans if s.trace_id == TRACE_ID and "Generate" in s.name]) >= 3
            ),
        )
        spans = [s for s in sink.spans if s.trace_id == TRACE_ID]

    by_id = {s.span_id: s for s in spans}
    services = {s.service for s in spans}
    assert services == {"lepton-router", "lepton-worker"}
    roots = [s for s in spans if s.parent_id == CLIENT_SPAN_ID]
    assert [s.service for s in roots] == ["lepton-router"]
    orphans = [s.name for s in spans if s not in roots and s.parent_id not in by_id]
    assert orphans == []
    prefill = next(s for s in spans if s.name == "lepton.prefill")
    assert (
        _path(prefill, by_id)[-1] == roots[0].span_id
    )  # the worker's work hangs under the router's call


def _path(span: Any, by_id: dict[str, Any]) -> list[str]:
    path = []
    while span is not None:
        path.append(span.span_id)
        span = by_id.get(span.parent_id)
    return path
