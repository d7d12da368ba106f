"""Where an HTTP door is: `http://127.0.0.1:8080`, `https://llm.example.org/v1`."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from common.address import join_address
from common.errors import Conflict, Reason

__all__ = ["BaseUrl", "parse_base_url"]

_VERSION = "/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseUrl:
    """The root of a door: the part of its URLs before `/v1`."""

    host: str
    port: int
    is_tls: bool
    prefix: str = ""
    """Path before `/v1`, without a slash at its end."""

    def __str__(self) -> str:
        scheme = "https" if self.is_tls else "http"
        return f"{scheme}://{join_address(self.host, self.port)}{self.prefix}"


def parse_base_url(text: str) -> BaseUrl:
    """As users write it, with or without the `/v1` at its end. Raises `Conflict(SETTING_INVALID)`."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _refused(text) from None
    is_sane = parts.scheme in {"http", "https"} and parts.hostname and text.isascii()
    if not is_sane or any(character.isspace() or character < "!" for character in text):
        raise _refused(text)
    if parts.username is not None or parts.query or parts.fragment:
        raise _refused(text)
    is_tls = parts.scheme == "https"
    return BaseUrl(
        host=parts.hostname or "",
        port=port if port is not None else (443 if is_tls else 80),
        is_tls=is_tls,
        prefix=parts.path.rstrip("/").removesuffix(_VERSION).rstrip("/"),
    )


def _refused(text: str) -> Conflict:
    return Conflict(
        f"{text!r} is not the URL of an HTTP door; write http://HOST:PORT, for example http://127.0.0.1:8080",
        reason=Reason.SETTING_INVALID,
    )
