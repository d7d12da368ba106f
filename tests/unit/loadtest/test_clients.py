"""The measuring clients count what came, however it was cut."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.clients.connection import Connection, Hooks, WordCount
from loadtest.clients.event_stream import EventStreamConnection
from loadtest.clients.websocket import WebSocketConnection
from loadtest.clients.words import FLOOD, WORD


class Wire:
    """In a transport's place."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data


def cut(data: bytes, at: set[int]) -> list[bytes]:
    places = [0, *sorted(at), len(data)]
    return [data[a:b] for a, b in pairwise(places)]


@given(st.data(), st.integers(0, 5))
def test_words_count_once_however_they_are_cut(data: Any, num: int) -> None:
    text = (b"x" + WORD) * num + b" meas"
    places = data.draw(st.sets(st.integers(1, len(text) - 1)))
    words = WordCount()
    assert sum(words.add(piece) for piece in cut(text, places)) == num


class Heard:
    def __init__(self) -> None:
        self.firsts = 0
        self.ends: list[int] = []
        self.hooks = Hooks(on_first=self.on_first, on_end=self.on_end)

    def on_first(self) -> None:
        self.firsts += 1

    def on_end(self, _: Connection, tokens: int) -> None:
        self.ends.append(tokens)


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


@given(st.data())
def test_an_event_stream_ends_once_with_its_tokens(data: Any) -> None:
    event = b'data: {"choices":[{"text":"%b"}]}\n\n' % WORD
    answer = (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        + chunk(event) * 3
        + chunk(b"data: [DONE]\n\n")
        + b"0\r\n\r\n"
    )
    heard, wire = Heard(), Wire()
    connection = EventStreamConnection(heard.hooks, "/v1/completions", "prompt")
    connection.connection_made(wire)  # type: ignore[arg-type]
    for round_ in range(2):  # a connection is kept
        connection.ask(FLOOD, 3)
        # The status line comes in one piece: it is shorter than any segment.
        places = data.draw(st.sets(st.integers(20, len(answer) - 1)))
        for piece in cut(answer, places):
            connection.data_received(piece)
        assert heard.ends == [3] * (round_ + 1)
    assert (heard.firsts, connection.tokens) == (2, 6)
    assert wire.written.startswith(b"POST /v1/completions HTTP/1.1\r\n")


def frame_of(payload: bytes) -> bytes:
    size = len(payload)
    return b"\x81" + (bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")) + payload


@given(st.data(), st.sampled_from([1, 20]))
async def test_a_socket_tells_its_answers_apart(data: Any, merged: int) -> None:
    def event(name: int) -> bytes:
        return frame_of(b'{"type":"event","id":"%d","event":"%b"}' % (name, WORD * merged))

    def end(name: int) -> bytes:
        return frame_of(b'{"type":"end","id":"%d"}' % name)

    said = (
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
        + event(1)
        + event(2) * 2
        + b"\x89\x02hi"
        + end(2)
        + event(1)
        + end(1)
    )
    heard, wire = Heard(), Wire()
    connection = WebSocketConnection(heard.hooks)
    connection.connection_made(wire)  # type: ignore[arg-type]
    connection.ask(FLOOD, 2)
    connection.ask(FLOOD, 2)
    for piece in cut(said, data.draw(st.sets(st.integers(1, len(said) - 1)))):
        connection.data_received(piece)
    await connection.ready()
    assert heard.ends == [2 * merged, 2 * merged]
    assert (heard.firsts, connection.messages) == (2, 4)
    assert b"\x8a\x82\x00\x00\x00\x00hi" in wire.written


def test_a_refused_socket_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr("os._exit", stop)
    connection = WebSocketConnection(Hooks())
    with pytest.raises(SystemExit):
        connection.data_received(b"HTTP/1.1 429 Too Many Requests\r\n\r\n")
