"""One HTTP/1.1 connection, kept open from request to request, and opened again when it was closed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self, final

from cli.http.base_url import BaseUrl
from cli.http.reply import Reply, ReplyError, ReplyReader
from common.errors import DeadlineExceeded, Reason, Unavailable

__all__ = ["HttpConnection"]

_CONNECT_S_MAX: Final = 5.0
_READ_BYTES: Final = 1 << 16
_BODY_BYTES_MAX: Final = 64 << 20


@final
class HttpConnection:
    """Asks one thing at a time. Use as `async with`."""

    def __init__(self, base: BaseUrl, *, body_bytes_max: int = _BODY_BYTES_MAX) -> None:
        self.base = base
        self._body_bytes_max = body_bytes_max
        self._tls = base.tls()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout_s: float,
    ) -> Reply:
        """The response, whole, whatever its status.

        Errors: `Unavailable(UNREACHABLE)` when there is no connection or it broke, `DeadlineExceeded` after
        `timeout_s` seconds. Cancellation closes the connection, so that the server stops computing.
        """
        request = self._head(method, path, headers or {}, len(body)) + body
        keeps_open = False
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._exchange(request)
            keeps_open = reply.keeps_open
        except TimeoutError:
            raise DeadlineExceeded(
                f"no answer from {self.base} within {timeout_s:g} s",
                reason=Reason.DEADLINE_EXCEEDED,
            ) from None
        except (OSError, ReplyError) as error:
            raise Unavailable(
                f"{self.base} does not answer: {error}", reason=Reason.UNREACHABLE
            ) from None
        finally:
            if not keeps_open:
                self.close()
        return reply

    async def _exchange(self, request: bytes) -> Reply:
        if self._streams is not None:
            answer = ReplyReader(body_bytes_max=self._body_bytes_max)
            # Servers close connections that idle, at times just when we ask. As long as nothing of an answer has come,
            # the request goes out once more.
            with contextlib.suppress(OSError, ReplyError):
                return await self._try(request, answer)
            if answer.begun:
                raise ReplyError("the connection broke in the middle of the response")
            self.close()
        self._streams = await self._connect()
        return await self._try(request, ReplyReader(body_bytes_max=self._body_bytes_max))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(_CONNECT_S_MAX):
                return await asyncio.open_connection(self.base.host, self.base.port, ssl=self._tls)
        except TimeoutError:
            raise ConnectionError(f"no connection within {_CONNECT_S_MAX:g} s") from None

    async def _try(self, request: bytes, answer: ReplyReader) -> Reply:
        assert self._streams is not None  # noqa: S101
        reader, writer = self._streams
        writer.write(request)
        await writer.drain()
        while answer.reply is None:
            data = await reader.read(_READ_BYTES)
            if data:
                answer.feed(data)
            else:
                answer.end()
        assert answer.reply is not None  # noqa: S101
        return answer.reply

    def _head(self, method: str, path: str, headers: Mapping[str, str], length: int) -> bytes:
        lines = [f"{method} {self.base.prefix}{path} HTTP/1.1", f"host: {self.base.netloc}"]
        if length or method == "POST":
            lines += ["content-type: application/json", f"content-length: {length}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def close(self) -> None:
        """At once. The next question opens it again."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
