"""The files of the page: read once, sent with an etag, under a policy that lets nothing else in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

__all__ = ["INDEX", "Asset", "load_assets", "respond"]

INDEX: Final = "index.html"

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

_HEADERS: Final = {
    # Scripts and styles from our own files only, none from markup; nothing is loaded from or sent to anywhere else.
    # With trusted types the browser also refuses to make markup of text.
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'; require-trusted-types-for 'script'",
    "cache-control": "no-cache",  # kept, but asked for again: a new release shows at once
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file as it is sent."""

    body: bytes
    media_type: str
    etag: str
    """Quoted, as in the header."""


def load_assets() -> Mapping[str, Asset]:
    """File name → asset, for everything in `static/`."""
    assets = {}
    for file in resources.files("gateway.page").joinpath("static").iterdir():
        media_type = _TYPES.get(file.name.rpartition(".")[2])
        if media_type is not None:
            body = file.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
            assets[file.name] = Asset(body=body, media_type=media_type, etag=etag)
    return assets


def respond(asset: Asset, request: Request) -> Response:
    """The asset, or 304 when the browser has it."""
    headers = {**_HEADERS, "etag": asset.etag}
    known = request.headers.get("if-none-match", "")
    if asset.etag in (one.strip().removeprefix("W/") for one in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(asset.body, headers=headers, media_type=asset.media_type)
