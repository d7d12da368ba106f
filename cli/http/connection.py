"""One HTTP connection, kept open from question to question: httpx2, bounded, its errors made ours."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Final, Self, final

import httpx2

from cli.http.base_url import BaseUrl
from common.errors import Conflict, DeadlineExceeded, Reason, Unavailable
from common.rpc.bind import is_loopback

__all__ = ["HttpConnection", "Reply", "trusted"]

_CONNECT_S_MAX: Final = 5.0
_IDLE_S_MAX: Final = 30.0
"""Less than doors allow (`gateway.idle_s_max`): who closes first meets no connection that ends just then."""
_BODY_BYTES_MAX: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One response, whole."""

    status: int
    headers: Mapping[str, str]
    """By name, in whatever case."""
    body: bytes


@final
class HttpConnection:
    """Asks one thing at a time; redirects are answers like others. Use as `async with`.

    Proxies of the environment (`HTTPS_PROXY`, `NO_PROXY` and the like) are used, but never for loopback.

    A pool for many that ask at once would search itself at every question: each has its own connection instead.
    """

    def __init__(self, base: BaseUrl, *, body_bytes_max: int = _BODY_BYTES_MAX) -> None:
        """Raises `Conflict(SETTING_INVALID)` for a proxy that cannot be used."""
        self.base = base
        self._body_bytes_max = body_bytes_max
        try:
            self._client = httpx2.AsyncClient(
                verify=trusted(),
                trust_env=not is_loopback(base.host),
                timeout=httpx2.Timeout(None, connect=_CONNECT_S_MAX),
                limits=httpx2.Limits(max_connections=1, keepalive_expiry=_IDLE_S_MAX),
                # A few bytes that inflate to many would escape the limit.
                headers={"accept-encoding": "identity"},
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            )
        except (ImportError, ValueError, httpx2.InvalidURL) as error:
            why = "SOCKS is not spoken" if isinstance(error, ImportError) else error
            raise Conflict(
                f"the proxy that the environment names for {base} cannot be used: {why}; name an HTTP proxy, or the "
                "host in NO_PROXY",
                reason=Reason.SETTING_INVALID,
            ) from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

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
        `timeout_s` seconds, `Conflict(SETTING_INVALID)` for a header that HTTP does not allow. Cancellation closes
        the connection, so that the server stops computing.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(method, path, headers or {}, body)
        except TimeoutError:
            raise DeadlineExceeded(
                f"no answer from {self.base} within {timeout_s:g} s",
                reason=Reason.DEADLINE_EXCEEDED,
            ) from None
        except (httpx2.LocalProtocolError, UnicodeEncodeError):  # its text may show a key
            raise Conflict(
                f"a header for {self.base} holds what HTTP does not allow: is the key one line of ASCII?",
                reason=Reason.SETTING_INVALID,
            ) from None
        except httpx2.ConnectTimeout:
            raise self._silent(f"no connection within {_CONNECT_S_MAX:g} s") from None
        except (httpx2.RequestError, OSError) as error:
            raise self._silent(str(error) or "the connection broke") from None

    async def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> Reply:
        if body:
            headers = {"content-type": "application/json", **headers}
        found = bytearray()
        async with self._client.stream(
            method, f"{self.base}{path}", headers=headers, content=body or None
        ) as response:
            async for piece in response.aiter_bytes():
                found += piece
                if len(found) > self._body_bytes_max:
                    raise self._silent(f"longer than {self._body_bytes_max} bytes")
        return Reply(status=response.status_code, headers=response.headers, body=bytes(found))

    def _silent(self, why: str) -> Unavailable:
        return Unavailable(f"{self.base} does not answer: {why}", reason=Reason.UNREACHABLE)

    async def close(self) -> None:
        """For good."""
        await self._client.aclose()


@functools.cache
def trusted() -> ssl.SSLContext:
    """The certificates that the machine, or its environment, trusts. Once: reading them takes long."""
    return httpx2.create_ssl_context()
