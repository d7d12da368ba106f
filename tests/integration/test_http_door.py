"""The HTTP door of a real router against rude clients: who may call, and how much it reads."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from common.telemetry.setup import Telemetry
from gateway.settings import GatewaySettings
from tests.support.fake_worker import FakeWorker
from tests.support.http_client import ask_http, connect, post_json, read_answer
from tests.support.small_cluster import SmallCluster, small_cluster, until

CHAT = "/v1/chat/completions"
VALID = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()
SETTINGS = GatewaySettings(
    port=0,
    headers_max=20,
    header_bytes_max=2048,
    body_bytes_max=100_000,
    body_chunks_max=50,
    hosts=("box.example",),
    origins=("https://chat.example",),
)


@pytest.fixture(name="cluster")
async def _cluster() -> AsyncIterator[SmallCluster]:
    async with small_cluster(FakeWorker(), gateway=SETTINGS) as cluster:
        yield cluster


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1", 400),
        ("127.0.0.1", 400),
        ("[::1]:8080", 400),
        ("192.0.2.7:80", 400),
        ("box.example", 400),
        ("rebound.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 400),
    ],
)
async def test_the_host_header_must_name_us(cluster: SmallCluster, host: str, status: int) -> None:
    """400: let in, and refused for its empty body. Without the header it is HTTP no more."""
    answer = await post_json(cluster.http, CHAT, b"", headers={"host": host})
    if host:
        assert answer.status == status
        assert answer.code == ("host_not_allowed" if status == 403 else "malformed_message")
    else:
        assert answer.status in {400, 403}


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://evil.example", 403),
        ("null", 403),
        ("http://127.0.0.1:1", 403),
        ("https://chat.example.evil.example", 403),
        ("https://chat.example", 400),
    ],
)
async def test_pages_from_elsewhere_are_refused(
    cluster: SmallCluster, origin: str, status: int
) -> None:
    answer = await post_json(cluster.http, CHAT, b"", headers={"origin": origin})
    assert answer.status == status
    allowed = answer.headers.get("access-control-allow-origin")
    assert allowed == (origin if status == 400 else None)


async def test_our_own_page_may_call(cluster: SmallCluster) -> None:
    answer = await post_json(cluster.http, CHAT, b"", headers={"origin": cluster.http})
    assert answer.code == "malformed_message"
    assert "access-control-allow-origin" not in answer.headers


async def test_a_preflight_of_a_page_that_may_call(cluster: SmallCluster) -> None:
    head = (
        "OPTIONS /v1/models HTTP/1.1\r\nhost: localhost\r\naccess-control-request-method: POST\r\n"
    )
    answer = await ask_http(cluster.http, f"{head}origin: https://chat.example\r\n\r\n".encode())
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "https://chat.example"
    refused = await ask_http(cluster.http, f"{head}origin: https://evil.example\r\n\r\n".encode())
    assert refused.status == 403


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"content-type": "text/plain"}, 415, "content_type_unsupported"),
        ({"content-type": "application/x-www-form-urlencoded"}, 415, "content_type_unsupported"),
        ({"content-type": ""}, 415, "content_type_unsupported"),
        ({"content-encoding": "br"}, 415, "content_type_unsupported"),
        ({"content-encoding": "gzip, gzip"}, 415, "content_type_unsupported"),
        ({"content-encoding": "gzip"}, 400, "malformed_message"),
    ],
)
async def test_only_json_is_read(
    cluster: SmallCluster, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await post_json(cluster.http, CHAT, VALID, headers=headers)
    assert (answer.status, answer.code) == (status, code)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b" " * 100_001, {}),
        (gzip.compress(b" " * 100_001), {"content-encoding": "gzip"}),
        (gzip.compress(b" " * 50_000_000), {"content-encoding": "gzip"}),
    ],
    ids=["plain", "inflated", "bomb"],
)
async def test_bodies_are_bounded(
    cluster: SmallCluster, body: bytes, headers: dict[str, str]
) -> None:
    answer = await post_json(cluster.http, CHAT, body, headers=headers)
    assert (answer.status, answer.code) == (413, "body_too_large")


@pytest.mark.parametrize("length", ["100001", "9" * 18, "9" * 400])
async def test_a_body_that_announces_too_much_is_not_read(
    cluster: SmallCluster, length: str
) -> None:
    answer = await post_json(cluster.http, CHAT, b"{", headers={"content-length": length})
    assert answer.status in {400, 413}


async def test_chunks_are_counted(cluster: SmallCluster) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    flood = head + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 60 + b"0\r\n\r\n"
    answer = await ask_http(cluster.http, flood)
    assert answer.status == 413


@pytest.mark.parametrize(
    "more",
    [
        "".join(f"x-{i}: y\r\n" for i in range(30)),
        f"x: {'y' * 3000}\r\n",
    ],
    ids=["many", "large"],
)
async def test_headers_are_bounded(cluster: SmallCluster, more: str) -> None:
    request = f"GET /livez HTTP/1.1\r\nhost: localhost\r\n{more}\r\n"
    answer = await ask_http(cluster.http, request.encode())
    assert answer.status == 431


async def test_a_long_path_is_bounded_too(cluster: SmallCluster) -> None:
    request = f"GET /{'x' * 3000} HTTP/1.1\r\nhost: localhost\r\n\r\n"
    assert (await ask_http(cluster.http, request.encode())).status == 431


async def test_slow_headers_end() -> None:
    settings = SETTINGS.model_copy(update={"header_s_max": 0.3})
    async with small_cluster(gateway=settings) as cluster:
        reader, writer = await connect(cluster.http)
        writer.write(b"GET /livez HTTP/1.1\r\nhost: loc")
        assert (await read_answer(reader)).status == 408
        writer.close()


async def test_slow_bodies_end() -> None:
    settings = SETTINGS.model_copy(update={"body_s_max": 0.3})
    async with small_cluster(gateway=settings) as cluster:
        answer = await post_json(cluster.http, CHAT, b"{", headers={"content-length": "9"})
        assert (answer.status, answer.code) == (408, "body_timeout")


async def test_connections_are_bounded() -> None:
    settings = SETTINGS.model_copy(update={"connections_max": 2})
    async with small_cluster(gateway=settings) as cluster:
        pairs = [await connect(cluster.http) for _ in range(2)]
        http = cluster.router.http
        assert http is not None
        await until(lambda: len(http._server.server_state.connections) == 2)
        reader, writer = await connect(cluster.http)
        writer.write(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1)
        for _, other in [*pairs, (reader, writer)]:
            other.close()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed_message"),
        (b"{", "malformed_message"),
        (b"[" * 90_000, "malformed_message"),
        (b'{"a":' * 150 + b"1" + b"}" * 150, "malformed_message"),
        (b'{"a":1,"a":2}', "malformed_message"),
        (b'{"temperature":NaN}', "field_not_finite"),
        (b'{"temperature":1e999}', "field_not_finite"),
        (b'{"seed":' + b"9" * 5000 + b"}", "malformed_message"),
        (b'{"user":"\\ud800"}', "malformed_message"),
        (b'{"user":"\xff"}', "malformed_message"),
        (b'\xef\xbb\xbf{"user":"x"}', "malformed_message"),
        (b"[]", "field_malformed"),
        (b"null", "field_malformed"),
    ],
)
async def test_json_is_read_strictly(cluster: SmallCluster, body: bytes, code: str) -> None:
    answer = await post_json(cluster.http, CHAT, body)
    assert (answer.status, answer.code) == (400, code)
    assert b"Traceback" not in answer.body


async def test_what_is_not_http_gets_400_and_the_door_stays_open(cluster: SmallCluster) -> None:
    for rubbish in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/9\r\n\r\n",
    ):
        assert (await ask_http(cluster.http, rubbish)).status == 400
    answer = await ask_http(cluster.http, b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert answer.status == 200


async def test_ids_and_trace_go_in_and_out() -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    telemetry = Telemetry(provider, None, shutdown_s_max=1.0)
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    async with small_cluster(FakeWorker(), gateway=SETTINGS, telemetry=telemetry) as cluster:
        answer = await post_json(
            cluster.http,
            "/v1/completions",
            b'{"prompt":"x"}',
            headers={
                "x-request-id": "mine-1",
                "traceparent": f"00-{trace_id}-b7ad6b7169203331-01",
            },
        )
        assert answer.headers["x-request-id"] == "mine-1"
        assert answer.headers["lepton-trace-id"] == trace_id
        forged = await post_json(cluster.http, CHAT, b"", headers={"x-request-id": "no id at all"})
        assert forged.headers["x-request-id"] != "no id at all"
        (seen,) = cluster.workers["w1"].calls
        assert seen.metadata["lepton-request-id"] == "mine-1"
        await until(
            lambda: any(s.name == "POST /v1/completions" for s in spans.get_finished_spans())
        )
        (span,) = [s for s in spans.get_finished_spans() if s.name == "POST /v1/completions"]
        assert span.context is not None
        assert f"{span.context.trace_id:032x}" == trace_id
        routes = [s for s in spans.get_finished_spans() if s.name == "lepton.route"]
        assert {s.context.trace_id for s in routes if s.context} == {span.context.trace_id}
        assert await cluster.has_metric(
            'lepton_http_requests_total{route="/v1/completions",status="500"} 1.0'
        ), "the fake's stream has no end, and a part is not the whole"


async def test_unknown_paths_are_no_labels(cluster: SmallCluster) -> None:
    for path in ("/a", "/b", "/../etc/passwd"):
        request = f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"
        answer = await ask_http(cluster.http, request.encode())
        assert (answer.status, answer.code) == (404, "route_not_found")
    assert await cluster.has_metric('lepton_http_requests_total{route="none",status="404"} 3.0')


async def test_a_drain_lets_a_stream_end_and_closes_the_door() -> None:
    async with small_cluster(FakeWorker(), gateway=SETTINGS) as cluster:
        gate = asyncio.Event()
        cluster.workers["w1"].gate = gate
        body = b'{"prompt":"x","stream":true}'
        asking = asyncio.ensure_future(post_json(cluster.http, "/v1/completions", body))
        await until(lambda: cluster.workers["w1"].num_running == 1)
        draining = asyncio.ensure_future(cluster.router.drain(5.0))
        await until(cluster.router.leaving.is_set)
        ready = await ask_http(cluster.http, b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert ready.status == 503
        gate.set()
        answer = await asking
        assert answer.status == 200
        assert b"token-2" in answer.body
        await draining
        with pytest.raises(ConnectionError):
            await connect(cluster.http)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/v1/models", "/docs", "/"])
async def test_head_is_answered_where_get_is_and_brings_no_body(
    cluster: SmallCluster, path: str
) -> None:
    head = f"{path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    got = await ask_http(cluster.http, f"GET {head}".encode())
    reader, writer = await connect(cluster.http)
    writer.write(f"HEAD {head}".encode())
    lines = (await reader.read()).lower().split(b"\r\n")
    writer.close()
    assert lines[0] == b"http/1.1 200 ok"
    assert f"content-length: {len(got.body)}".encode() in lines
    assert lines[-2:] == [b"", b""]


async def test_a_wrong_method_is_told_the_right_one(cluster: SmallCluster) -> None:
    head = " HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    answer = await ask_http(cluster.http, f"GET {CHAT}{head}".encode())
    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"
    assert b"takes POST, not GET" in answer.body


async def test_a_plain_get_of_the_websocket_is_told_what_it_is(cluster: SmallCluster) -> None:
    head = "GET /v1/ws HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    answer = await ask_http(cluster.http, head.encode())
    assert (answer.status, answer.code) == (404, "route_not_found")
    assert b"WebSocket" in answer.body


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", b"/v1/chat/completions is there"),
        ("/v1/v1/chat/completions", b"/v1/chat/completions is there"),
        ("/v1/embeddings", b""),
    ],
)
async def test_a_base_url_that_is_nearly_right_is_told_what_is_there(
    cluster: SmallCluster, path: str, meant: bytes
) -> None:
    answer = await post_json(cluster.http, path, VALID)
    assert (answer.status, answer.code) == (404, "route_not_found")
    assert meant in answer.body
    assert (b" is there" in answer.body) == bool(meant)
