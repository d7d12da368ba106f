"""Asking an HTTP door: one connection, kept, opened again, bounded, and every way in which a server can be wrong."""

from __future__ import annotations

import asyncio
import gzip
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from cli.http.base_url import parse_base_url
from cli.http.connection import HttpConnection, trusted
from common.errors import Conflict, DeadlineExceeded, Unavailable
from tests.support.scripted_http import Asked, Told, scripted_http


async def _echo(asked: Asked) -> Told:
    return Told(body=asked.body)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://llm.example.org/v1/", "https://llm.example.org:443"),
        ("http://[::1]:9/a/v1", "http://[::1]:9/a"),
    ],
)
def test_urls_of_doors(text: str, shown: str) -> None:
    assert str(parse_base_url(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "ftp://x",
        "http://",
        "http://u:p@x",
        "http://x:99999",
        "http://a b",
        "http://x/?q=1",
    ],
)
def test_urls_that_are_none(text: str) -> None:
    with pytest.raises(Conflict):
        parse_base_url(text)


async def test_one_connection_for_many_questions() -> None:
    async with (
        scripted_http(_echo) as server,
        HttpConnection(parse_base_url(server.url + "/v1")) as connection,
    ):
        for number in range(3):
            body = b'{"n":%d}' % number
            reply = await connection.ask("POST", "/v1/x", body=body, timeout_s=5)
            assert (reply.status, reply.body) == (200, body)
        assert server.num_connections == 1
        asked = server.asked[0]
        assert (asked.method, asked.path) == ("POST", "/v1/x")
        assert asked.headers["content-type"] == "application/json"
        assert asked.headers["host"] == server.url.removeprefix("http://")


async def test_a_connection_that_was_closed_is_opened_again() -> None:
    async def once(asked: Asked) -> Told:
        return Told(closes=True)  # without saying so: a server that restarts, or waited long enough

    async with (
        scripted_http(once) as server,
        HttpConnection(parse_base_url(server.url)) as connection,
    ):
        for _ in range(3):
            assert (await connection.ask("GET", "/", timeout_s=5)).status == 200
            await server.all_closed.wait()
        assert server.num_connections == 3


async def test_a_break_in_the_middle_is_told_not_repeated() -> None:
    async def cut(asked: Asked) -> Told:
        if len(server.asked) == 1:
            return Told()
        return Told(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")

    async with (
        scripted_http(cut) as server,
        HttpConnection(parse_base_url(server.url)) as connection,
    ):
        await connection.ask("GET", "/", timeout_s=5)
        with pytest.raises(Unavailable, match="does not answer: peer closed"):
            await connection.ask("GET", "/", timeout_s=5)
        assert len(server.asked) == 2


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n" + b"x" * 2000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000,
        b"HTTP/1.1 200 OK\r\na: " + b"x" * 200_000 + b"\r\n\r\n",
    ],
)
async def test_answers_that_are_none(raw: bytes) -> None:
    async def answer(asked: Asked) -> Told:
        return Told(raw=raw)

    async with (
        scripted_http(answer) as server,
        HttpConnection(parse_base_url(server.url), body_bytes_max=1000) as connection,
    ):
        with pytest.raises(Unavailable, match=r"does not answer: \S"):
            await connection.ask("GET", "/", timeout_s=5)


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nX-A: 1\r\n\r\n"
            b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            b"abcde",
        ),
        (b"HTTP/1.0 200 OK\r\nX-A: 1\r\n\r\nto the end", b"to the end"),
    ],
)
async def test_forms_of_an_answer(raw: bytes, body: bytes) -> None:
    async def answer(asked: Asked) -> Told:
        return Told(raw=raw)

    async with (
        scripted_http(answer) as server,
        HttpConnection(parse_base_url(server.url)) as connection,
    ):
        reply = await connection.ask("GET", "/", timeout_s=5)
    assert (reply.status, reply.headers["x-a"], reply.body) == (200, "1", body)


async def test_a_redirect_is_an_answer_and_cookies_are_not_kept() -> None:
    async def elsewhere(asked: Asked) -> Told:
        return Told(status=307, headers={"location": "/elsewhere", "set-cookie": "a=1"})

    async with (
        scripted_http(elsewhere) as server,
        HttpConnection(parse_base_url(server.url)) as connection,
    ):
        for _ in range(2):
            assert (await connection.ask("GET", "/here", timeout_s=5)).status == 307
    assert [one.path for one in server.asked] == ["/here", "/here"]
    assert not any("cookie" in one.headers for one in server.asked)


async def test_what_inflates_is_bounded_by_what_it_becomes() -> None:
    async def inflating(asked: Asked) -> Told:
        assert asked.headers["accept-encoding"] == "identity"
        return Told(headers={"content-encoding": "gzip"}, body=gzip.compress(b"x" * 5000))

    async with (
        scripted_http(inflating) as server,
        HttpConnection(parse_base_url(server.url), body_bytes_max=1000) as connection,
    ):
        with pytest.raises(Unavailable, match="longer than 1000 bytes"):
            await connection.ask("GET", "/", timeout_s=5)


async def test_proxies_of_the_environment_but_never_for_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with scripted_http(_echo) as server, scripted_http(_echo) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        for base in (server.url, "http://llm.example.org"):
            async with HttpConnection(parse_base_url(base)) as connection:
                await connection.ask("GET", "/v1/x", timeout_s=5)
    assert [one.path for one in server.asked] == ["/v1/x"]
    assert [one.path for one in proxy.asked] == ["http://llm.example.org/v1/x"]


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "gopher://x", "http://x:y"])
async def test_proxies_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    for name in ("NO_PROXY", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(Conflict, match="NO_PROXY"):
        HttpConnection(parse_base_url("http://llm.example.org"))
    await HttpConnection(parse_base_url("http://127.0.0.1:1")).close()


@pytest.mark.parametrize("key", ["secret\n", "secret\u00e9", "secret\udc80"])
async def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key: str) -> None:
    async with (
        scripted_http(_echo) as server,
        HttpConnection(parse_base_url(server.url)) as connection,
    ):
        with pytest.raises(Conflict, match="one line of ASCII") as caught:
            await connection.ask("GET", "/", headers={"authorization": key}, timeout_s=5)
    assert "secret" not in str(caught.value)


def _own_certificate(folder: Path) -> tuple[Path, Path]:
    """Certificate of 127.0.0.1 that nobody vouches for, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    kind = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=lepton -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        ("openssl", *kind.split(), "-keyout", str(key), "-out", str(certificate)),
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
async def test_certificates_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = _own_certificate(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    async with scripted_http(_echo, tls=tls) as server:
        base = parse_base_url(server.url)
        async with HttpConnection(base) as connection:
            with pytest.raises(Unavailable, match="certificate"):
                await connection.ask("GET", "/", timeout_s=5)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        trusted.cache_clear()
        try:
            async with HttpConnection(base) as connection:
                assert (await connection.ask("GET", "/", timeout_s=5)).status == 200
        finally:
            trusted.cache_clear()


async def test_nobody_and_too_late() -> None:
    for nobody in ("http://127.0.0.1:1", f"http://{'a' * 300}"):
        async with HttpConnection(parse_base_url(nobody)) as connection:
            with pytest.raises(Unavailable):
                await connection.ask("GET", "/", timeout_s=5)
    never = asyncio.Event()

    async def silent(asked: Asked) -> Told:
        await never.wait()
        return Told()

    async with (
        scripted_http(silent) as server,
        HttpConnection(parse_base_url(server.url)) as connection,
    ):
        with pytest.raises(DeadlineExceeded):
            await connection.ask("GET", "/", timeout_s=0.05)
        never.set()
        assert (await connection.ask("GET", "/", timeout_s=5)).status == 200
