"""tokenizer.json → what each token prints, and which tokens control.

Two ways of writing bytes as tokens are known: byte-level (every byte has a printable stand-in, as GPT-2 does) and byte
fallback (SentencePiece: "▁" is a space, "<0x0A>" is a byte).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from common.errors import BadModel, Reason
from worker.runtime.tool_format import CALL_WORDS

__all__ = ["AddedToken", "Vocabulary", "read_vocabulary"]

SPACE: Final = "\u2581"
BYTE_TOKEN: Final = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedToken:
    """A token that is found in text as a whole, before anything else is split."""

    id: int
    content: str
    special: bool
    lstrip: bool
    """Whether it swallows the white space before it."""
    rstrip: bool
    """Whether it swallows the white space after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """All tokens by id."""

    token_bytes: tuple[bytes, ...]
    """What each token stands for; empty for ids that do not exist."""
    control: Mapping[str, AddedToken]
    """Text → token, for those that text from outside must never become."""
    silent_ids: frozenset[int]
    """Those of them that are never printed; the others are words of an answer, such as "<tool_call>"."""
    strip_first_space: bool
    """Whether decoded text begins with a space that was never there."""

    @property
    def control_ids(self) -> frozenset[int]:
        return frozenset(token.id for token in self.control.values())

    @property
    def unspeakable_ids(self) -> frozenset[int]:
        """Control tokens but for the words around calls of tools, which are a spelling of their text in an answer."""
        return frozenset(
            token.id
            for token in self.control.values()
            if token.id in self.silent_ids or token.content not in CALL_WORDS
        )

    @property
    def printed_bytes(self) -> tuple[bytes, ...]:
        """`token_bytes`, with nothing for silent ones."""
        silent = self.silent_ids
        return tuple(b"" if i in silent else piece for i, piece in enumerate(self.token_bytes))


def read_vocabulary(
    data: Mapping[str, Any],
    tokens: Mapping[str, int],
    *,
    control_ids: frozenset[int],
    template: str,
) -> Vocabulary:
    """From the parsed file and its `tokens` (text → id, added ones included).

    A token controls when the file calls it special, when its id is in `control_ids` (begin, end, padding), or when the
    chat template writes it; white space does not, templates are full of it. Those of the first two kinds are silent,
    except for words of an answer (`CALL_WORDS`): who is to read the calls of tools in it must see where they begin.
    Raises `BadModel(MODEL_TOKENIZER_INVALID)` for a decoder that we do not know.
    """
    added = [_added(item) for item in data.get("added_tokens", ())]
    decoders = {kind for kind, _ in _decoders(data.get("decoder"))}
    added_texts = {token.content for token in added}
    size = max(tokens.values(), default=-1) + 1
    token_bytes = [b""] * size
    if "ByteLevel" in decoders:
        to_bytes = _byte_level
    elif "ByteFallback" in decoders or "Metaspace" in decoders:
        to_bytes = _byte_fallback
    else:
        known = ", ".join(sorted(decoders)) or "none"
        raise BadModel(
            f"tokenizer.json: decoder must be ByteLevel or use ByteFallback, it is {known}",
            reason=Reason.MODEL_TOKENIZER_INVALID,
        )
    for text, token_id in tokens.items():
        token_bytes[token_id] = text.encode() if text in added_texts else to_bytes(text)
    silent_ids = frozenset(
        token.id
        for token in added
        if token.id in control_ids or (token.special and token.content not in CALL_WORDS)
    )
    return Vocabulary(
        token_bytes=tuple(token_bytes),
        control={
            token.content: token
            for token in added
            if token.special
            or token.id in silent_ids
            or (token.content.strip() and token.content in template)
        },
        silent_ids=silent_ids,
        strip_first_space=any(
            kind == "Metaspace" or (kind == "Strip" and item.get("start", 0) > 0)
            for kind, item in _decoders(data.get("decoder"))
        ),
    )


def _added(item: Any) -> AddedToken:
    try:
        return AddedToken(
            id=int(item["id"]),
            content=str(item["content"]),
            special=bool(item.get("special", False)),
            lstrip=bool(item.get("lstrip", False)),
            rstrip=bool(item.get("rstrip", False)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadModel(
            f"tokenizer.json: added_tokens: {error!r}", reason=Reason.MODEL_TOKENIZER_INVALID
        ) from error


def _decoders(item: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All decoders of a sequence, or the only one."""
    if isinstance(item, dict):
        yield str(item.get("type")), item
        for part in item.get("decoders", ()):
            yield from _decoders(part)


def _byte_level_alphabet() -> dict[str, int]:
    """Printable characters stand for themselves, the other bytes for the code points from 256 on, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + at): byte for at, byte in enumerate(others)}


_ALPHABET: Final = _byte_level_alphabet()


def _byte_level(text: str) -> bytes:
    """A token with any other character in it stands for its own text."""
    try:
        return bytes(_ALPHABET[char] for char in text)
    except KeyError:
        return text.encode()


def _byte_fallback(text: str) -> bytes:
    if match := BYTE_TOKEN.fullmatch(text):
        return bytes([int(match.group(1), 16)])
    return text.replace(SPACE, " ").encode()
