"""REST with server-sent events, in HTTP/1.1: one answer at a time on one connection, which is kept."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, Final, final

from loadtest.clients.connection import Connect, Connection, Hooks, WordCount, fail, open_to
from loadtest.clients.words import MODEL

__all__ = ["EventStreamConnection", "connect_chat", "connect_completions"]

_EVENT: Final = b"data: {"
_LAST: Final = b"data: [DONE]\n\n"
_END: Final = b"0\r\n\r\n"
"""The last chunk of a body."""
_OK: Final = b"HTTP/1.1 200 "


@final
class EventStreamConnection(Connection):
    """Takes apart neither chunks nor events: it counts the words in them, and looks for the end."""

    def __init__(self, hooks: Hooks, path: str, named: str) -> None:
        super().__init__(hooks)
        self._path = path
        self._named = named
        self._words = WordCount()
        self._tokens = 0
        self._tail = b""
        self._awaits_head = False

    def ask(self, prompt: str, tokens: int) -> None:
        """See `Connection.ask`; only when the last answer has ended."""
        said: Any = prompt
        if self._named == "messages":
            said = [{"role": "user", "content": prompt}]
        body = json.dumps(
            {"model": MODEL, self._named: said, "max_tokens": tokens, "stream": True}
        ).encode()
        head = (
            f"POST {self._path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        self._words, self._tokens, self._tail, self._awaits_head = WordCount(), 0, b"", True
        self.transport.write(head.encode() + body)

    def data_received(self, data: bytes) -> None:
        if self._awaits_head:
            self._awaits_head = False
            if not data.startswith(_OK):
                fail(f"no stream began: {data[:1000]!r}")
        found = self._words.add(data)
        if found:
            if not self._tokens:
                self.hooks.on_first()
            self._tokens += found
            self.tokens += found
            self.messages += data.count(_EVENT)
        self._tail = (self._tail + data)[-(len(_LAST) + len(_END) + 2) :]
        if self._tail.endswith(_END):
            if _LAST not in self._tail and not self._tail.startswith(_LAST):
                fail(f"a stream ended badly: {data[-1000:]!r}")
            self.hooks.on_end(self, self._tokens)


async def _connect(address: str, hooks: Hooks, *, path: str, named: str) -> Connection:
    return await open_to(address, EventStreamConnection(hooks, path, named))


connect_completions: Final[Connect] = partial(_connect, path="/v1/completions", named="prompt")
connect_chat: Final[Connect] = partial(_connect, path="/v1/chat/completions", named="messages")
