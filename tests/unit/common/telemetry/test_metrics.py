"""The port that scrapers and probes ask."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from common.errors import Conflict, Reason
from common.telemetry.instruments import WorkerInstruments
from common.telemetry.metrics import CONNECTIONS_MAX, MetricsServer
from tests.support.patience import PATIENCE_S

Start = Callable[..., int]


@pytest.fixture(name="start")
def _start() -> Iterator[Start]:
    servers: list[MetricsServer] = []

    def start(
        registry: CollectorRegistry | None = None, health: Callable[[], bool] = lambda: True
    ) -> int:
        server = MetricsServer("127.0.0.1", 0, registry or CollectorRegistry(), health)
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        server.stop()


def _get(port: int, path: str, method: str = "GET") -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def test_a_machine_short_of_threads_gets_its_metrics_back(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = start()

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as short:
        short.setattr("socketserver.ThreadingMixIn.process_request", refuse)
        for _ in range(CONNECTIONS_MAX):
            with pytest.raises(OSError):  # noqa: PT011 - how a connection ends is the kernel's choice
                _get(port, "/livez")
    response, _ = _get(port, "/livez")
    assert response.status == 200


def test_metrics_are_those_of_the_registry(start: Start) -> None:
    registry = CollectorRegistry()
    instruments = WorkerInstruments(registry)
    instruments.models.set_served(["demo"])
    instruments.requests_total.labels(model=instruments.models.of("demo"), code="OK").inc(3)
    instruments.num_requests_running.set(2)
    response, body = _get(start(registry), "/metrics")
    assert response.status == 200
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert samples["lepton_requests_total", ("code", "OK"), ("model", "demo")] == 3
    assert samples[("lepton_num_requests_running",)] == 2
    assert not any(name[0].endswith("_created") for name in samples)


def test_ready_follows_the_callback_and_live_does_not(start: Start) -> None:
    state = {"ready": False}
    port = start(health=lambda: state["ready"])
    assert _get(port, "/livez")[0].status == 200
    response, body = _get(port, "/readyz")
    assert (response.status, json.loads(body)) == (503, {"ready": False})
    state["ready"] = True
    response, body = _get(port, "/readyz")
    assert (response.status, json.loads(body)) == (200, {"ready": True})


def test_a_broken_callback_is_not_ready(start: Start) -> None:
    def broken() -> bool:
        raise RuntimeError("no")

    assert _get(start(health=broken), "/readyz")[0].status == 503


def test_a_gauge_that_fails_is_a_500_and_the_next_scrape_works(start: Start) -> None:
    registry = CollectorRegistry()
    gauge = WorkerInstruments(registry).num_requests_running

    def fails() -> float:
        raise RuntimeError("no")

    gauge.set_function(fails)
    port = start(registry)
    assert _get(port, "/metrics")[0].status == 500
    gauge.set_function(lambda: 7)
    assert b"lepton_num_requests_running 7.0" in _get(port, "/metrics")[1]


def test_other_paths_and_head(start: Start) -> None:
    port = start()
    assert _get(port, "/../etc/passwd")[0].status == 404
    response, body = _get(port, "/metrics?name[]=x", "HEAD")
    assert (response.status, body) == (200, b"")
    assert _get(port, "/metrics", "POST")[0].status == 501


def test_a_used_port_is_a_conflict_that_names_it(start: Start) -> None:
    port = start()
    second = MetricsServer("127.0.0.1", port, CollectorRegistry(), lambda: True)
    with pytest.raises(Conflict, match=f"127.0.0.1:{port} is already in use") as refused:
        second.start()
    assert refused.value.reason is Reason.PORT_IN_USE
    second.stop()


def test_an_address_of_somebody_else_is_a_conflict() -> None:
    server = MetricsServer("192.0.2.1", 0, CollectorRegistry(), lambda: True)
    with pytest.raises(Conflict) as refused:
        server.start()
    assert refused.value.reason is Reason.SETTING_INVALID


def test_stop_releases_the_port() -> None:
    first = MetricsServer("localhost", 0, CollectorRegistry(), lambda: True)
    port = first.start()
    first.stop()
    first.stop()
    second = MetricsServer("localhost", port, CollectorRegistry(), lambda: True)
    assert second.start() == port
    second.stop()


def test_connections_that_say_nothing_cannot_multiply(start: Start) -> None:
    port = start()
    held = [
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        for _ in range(CONNECTIONS_MAX)
    ]
    try:
        one_more = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        assert one_more.recv(1) == b""  # closed at once
        one_more.close()
        assert (
            sum("process_request_thread" in t.name for t in threading.enumerate())
            <= CONNECTIONS_MAX
        )
    finally:
        for connection in held:
            connection.close()
