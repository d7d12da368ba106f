"""The header `idempotency-key`: the same key as `lepton.idempotency_key`, where HTTP's own tools put it.

As draft-ietf-httpapi-idempotency-key-header and many services have it. What is sent counts as it is, quotes included.
"""

from __future__ import annotations

from typing import Final, TypeVar

from msgspec.structs import replace
from starlette.datastructures import Headers

from common.errors import InvalidRequest, Reason
from gateway.openai.fields import LeptonOptions, Sampling

__all__ = ["IDEMPOTENCY_HEADER", "key_words", "with_key"]

IDEMPOTENCY_HEADER: Final = "idempotency-key"

RequestT = TypeVar("RequestT", bound=Sampling)


def with_key(asked: RequestT, headers: Headers) -> RequestT:
    """`asked` as if its body had named the header's key. Raises `InvalidRequest` for two different ones."""
    named = headers.getlist(IDEMPOTENCY_HEADER)
    if not named:
        return asked
    options = asked.lepton or LeptonOptions()
    keys = {*named, options.idempotency_key or ""} - {""}
    if len(keys) > 1:
        raise InvalidRequest(
            "one call has one key, and this request names several; the header is enough",
            reason=Reason.FIELDS_CONTRADICT,
            field=IDEMPOTENCY_HEADER,
        )
    return replace(asked, lepton=replace(options, idempotency_key=keys.pop() if keys else None))


def key_words(headers: Headers) -> dict[str, str]:
    """How this request calls its key, for errors."""
    return {"idempotency_key": IDEMPOTENCY_HEADER} if IDEMPOTENCY_HEADER in headers else {}
