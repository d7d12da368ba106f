"""Bytes → JSON value, strictly: what two readers would read differently, or what costs more than it looks, is refused.

The rules are those of I-JSON (RFC 7493): UTF-8, no lone surrogates, no name twice in an object, no NaN or infinity.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, Final

from common.errors import InvalidRequest, Reason

__all__ = ["parse_json"]

INT_DIGITS_MAX: Final = 40
"""Longest integer. No field takes more than 64 bits; reading longer ones takes time that grows with their square."""


def parse_json(body: bytes, *, depth_max: int, values_max: int) -> Any:
    """The value.

    Raises `InvalidRequest` with MALFORMED_MESSAGE, which says where, FIELD_NOT_FINITE, or BODY_TOO_LARGE before it
    makes more than `values_max` values.
    """
    if not body:
        raise _malformed("the body is empty")
    if _num_marks(body) > values_max and not _has_at_most(body, values_max):
        raise InvalidRequest(
            f"the body has more than {values_max} values (setting gateway.json_values_max)",
            reason=Reason.BODY_TOO_LARGE,
        )
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _malformed(f"the body is not UTF-8 (byte {error.start})") from error
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_int,
            parse_float=_float,
            parse_constant=_constant,
        )
    except json.JSONDecodeError as error:
        raise _malformed(
            f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from error
    except RecursionError:
        raise _too_deep(depth_max) from None
    may_be_deep = body.count(b"[") + body.count(b"{") > depth_max
    may_be_lone = b"\\ud" in body or b"\\uD" in body
    if may_be_deep or may_be_lone:
        _check(value, depth_max, looks_at_texts=may_be_lone)
    return value


def _num_marks(text: bytes) -> int:
    """No less than the values in it but one: each but the first comes after one of these."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _has_at_most(body: bytes, values_max: int) -> bool:
    """Looks again, at what stands outside of texts: a text may have as many commas as it likes."""
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if bare.count(b'"') > 4 * values_max:  # two for a name, two for its value
        return False
    return _num_marks(b"".join(bare.split(b'"')[::2])) <= values_max


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise _malformed(f"the name {twice[:64]!r} stands twice in one object")
    return made


def _int(digits: str) -> int:
    if len(digits) > INT_DIGITS_MAX:
        raise _malformed(f"an integer has more than {INT_DIGITS_MAX} digits")
    return int(digits)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise InvalidRequest(f"the number {text[:32]} is too large", reason=Reason.FIELD_NOT_FINITE)
    return value


def _constant(name: str) -> float:
    raise InvalidRequest(f"{name} is no number in JSON", reason=Reason.FIELD_NOT_FINITE)


def _check(value: Any, depth_max: int, *, looks_at_texts: bool) -> None:
    """Walks without recursion: `value` may be deeper than Python's stack likes."""
    level = [value]
    depth = 0
    while level:
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                if looks_at_texts:
                    below.extend(one)
                below.extend(one.values())
            elif isinstance(one, list):
                below.extend(one)
            elif looks_at_texts and isinstance(one, str) and not _is_whole(one):
                raise _malformed("a text has half of a surrogate pair (\\uD800 to \\uDFFF)")
        depth += any(isinstance(one, dict | list) for one in level)
        if depth > depth_max:
            raise _too_deep(depth_max)
        level = below


def _is_whole(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _too_deep(depth_max: int) -> InvalidRequest:
    return _malformed(
        f"the body is nested deeper than {depth_max} (setting gateway.json_depth_max)"
    )


def _malformed(message: str) -> InvalidRequest:
    return InvalidRequest(message, reason=Reason.MALFORMED_MESSAGE)
