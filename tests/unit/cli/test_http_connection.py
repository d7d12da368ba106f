"""The HTTP client: one connection, kept, opened again, bounded, and every way in which a server can be wrong."""

from __future__ import annotations

import asyncio

import pytest

from cli.http.base_url import BaseUrl, parse_base_url
from cli.http.connection import HttpConnection
from cli.http.reply import ReplyReader
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
        return Told(
            closes=True
        )  # without saying so: a server that restarts, or that waited long enough

    async with (
        scripted_http(once) as server,
        HttpConnection(parse_base_url(server.url)) as connection,
    ):
        for _ in range(3):
            assert (await connection.ask("GET", "/", timeout_s=5)).status == 200
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
        with pytest.raises(Unavailable, match="in the middle"):
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
        b"HTTP/1.1 200 OK\r\na: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_answers_that_are_none(raw: bytes) -> None:
    async def answer(asked: Asked) -> Told:
        return Told(raw=raw)

    async with (
        scripted_http(answer) as server,
        HttpConnection(parse_base_url(server.url), body_bytes_max=1000) as connection,
    ):
        with pytest.raises(Unavailable, match="does not answer"):
            await connection.ask("GET", "/", timeout_s=5)


def test_forms_of_an_answer_in_any_pieces() -> None:
    chunked = (
        b"HTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    for size in (1, 7, len(chunked)):
        reader = ReplyReader(body_bytes_max=100)
        for start in range(0, len(chunked), size):
            reader.feed(chunked[start : start + size])
        assert reader.reply is not None
        assert (reader.reply.status, reader.reply.body) == (200, b"abcde")
        assert reader.reply.headers["x-a"] == "1"
        assert reader.reply.keeps_open
    reader = ReplyReader(body_bytes_max=100)
    reader.feed(b"HTTP/1.0 200 OK\r\n\r\nto the end")
    assert reader.reply is None
    reader.end()
    assert reader.reply is not None
    assert (reader.reply.body, reader.reply.keeps_open) == (b"to the end", False)


async def test_nobody_and_too_late() -> None:
    nobody = BaseUrl(host="127.0.0.1", port=1, is_tls=False)
    async with HttpConnection(nobody) as connection:
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
