"""The body of a request, read by us: bounded before it is inflated, while it is inflated, and before it is parsed."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request

from common.errors import InvalidRequest, Reason
from gateway.http.connected import client_gone
from gateway.http.json_text import parse_json
from gateway.settings import GatewaySettings

__all__ = ["read_json"]

_GZIP_WBITS: Final = 16 + zlib.MAX_WBITS


async def read_json(request: Request, settings: GatewaySettings) -> Any:
    """The JSON value in the body.

    Raises `InvalidRequest` with CONTENT_TYPE_UNSUPPORTED, BODY_TOO_LARGE, BODY_TIMEOUT or MALFORMED_MESSAGE;
    `Cancelled(CLIENT_GONE)`.
    """
    _check_type(request)
    is_gzip = _is_gzip(request)
    try:
        async with asyncio.timeout(settings.body_s_max):
            body = await _read(request, settings)
    except TimeoutError:
        raise InvalidRequest(
            f"the body did not arrive within {settings.body_s_max:g} s (setting gateway.body_s_max)",
            reason=Reason.BODY_TIMEOUT,
        ) from None
    except ClientDisconnect:
        raise client_gone() from None
    if is_gzip:
        body = _inflated(body, settings.body_bytes_max)
    return parse_json(body, depth_max=settings.json_depth_max, values_max=settings.json_values_max)


def _check_type(request: Request) -> None:
    """Only JSON: a form or plain text can be sent by any web page without asking (cross-site request forgery)."""
    kinds = request.headers.getlist("content-type")
    kind = kinds[0].partition(";")[0].strip().lower() if len(kinds) == 1 else ""
    if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        return
    raise InvalidRequest(
        f"the body must be sent with content-type: application/json, not {kind[:64]!r}",
        reason=Reason.CONTENT_TYPE_UNSUPPORTED,
        field="content-type",
    )


def _is_gzip(request: Request) -> bool:
    encoding = ",".join(request.headers.getlist("content-encoding")).strip().lower()
    if encoding in {"", "identity"}:
        return False
    if encoding in {"gzip", "x-gzip"}:
        return True
    raise InvalidRequest(
        f"the body may be plain or gzip, not {encoding[:64]!r}",
        reason=Reason.CONTENT_TYPE_UNSUPPORTED,
        field="content-encoding",
    )


async def _read(request: Request, settings: GatewaySettings) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared and int(declared) > settings.body_bytes_max:  # the parser lets 64 bits through
        raise _too_large(settings.body_bytes_max)
    body = bytearray()
    num_parts = 0
    async for part in request.stream():
        body += part
        num_parts += 1
        if len(body) > settings.body_bytes_max:
            raise _too_large(settings.body_bytes_max)
        if num_parts > settings.body_chunks_max:
            raise InvalidRequest(
                f"the body came in more than {settings.body_chunks_max} parts (setting gateway.body_chunks_max)",
                reason=Reason.BODY_TOO_LARGE,
            )
    return bytes(body)


def _inflated(body: bytes, bytes_max: int) -> bytes:
    """Raises before more than `bytes_max` bytes exist."""
    inflater = zlib.decompressobj(_GZIP_WBITS)
    try:
        plain = inflater.decompress(body, bytes_max + 1)
    except zlib.error as error:
        raise InvalidRequest(
            f"the body is not gzip: {error}", reason=Reason.MALFORMED_MESSAGE
        ) from error
    if len(plain) > bytes_max:
        raise _too_large(bytes_max)
    if not inflater.eof or inflater.unused_data:
        raise InvalidRequest(
            "the gzip body is cut short, or something follows it", reason=Reason.MALFORMED_MESSAGE
        )
    return plain


def _too_large(bytes_max: int) -> InvalidRequest:
    return InvalidRequest(
        f"the body is larger than {bytes_max} bytes (setting gateway.body_bytes_max)",
        reason=Reason.BODY_TOO_LARGE,
    )
