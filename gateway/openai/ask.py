"""From an HTTP request to the cluster: who asks, how long it may take, and errors in the words of the dialect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from starlette.requests import Request

from common.errors import LeptonError
from gateway.http.metadata import metadata_of
from gateway.openai.words import in_our_words
from gateway.ports import Asked

__all__ = ["asked_of", "in_words"]


def asked_of(request: Request, timeout_s: float | None = None) -> Asked:
    """How the cluster is asked on behalf of an HTTP request; the header `lepton-caller` says on whose."""
    return Asked(metadata=metadata_of(request.headers), timeout_s=timeout_s)


@contextmanager
def in_words(special: Mapping[str, str]) -> Iterator[None]:
    """Errors that leave the block name parameters as the caller did."""
    try:
        yield
    except LeptonError as error:
        raise in_our_words(error, special) from error.__cause__
