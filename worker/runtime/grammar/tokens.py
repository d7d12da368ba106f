"""The tokens of a model as llguidance wants them: bytes by id, which of them control, which end a sequence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llguidance import LLTokenizer

if TYPE_CHECKING:  # processes that try grammars out import this module, and should start quickly
    from worker.runtime.vocabulary import Vocabulary

__all__ = ["TokenTable", "open_tokens", "token_table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTable:
    """All ids that logits have; those without a token are empty and never allowed."""

    token_bytes: tuple[bytes, ...] = field(repr=False)
    control_ids: tuple[int, ...]
    """No text of a grammar means them; Lark may name them as <name>."""
    eos_ids: tuple[int, ...]
    """Allowed where the text is complete; at least one."""


def token_table(
    vocabulary: Vocabulary, *, vocab_size: int, eos_ids: frozenset[int]
) -> TokenTable | None:
    """None when the model has no token for the end: then nothing could say that an answer is complete."""
    known = frozenset(i for i in eos_ids if i < len(vocabulary.token_bytes))
    if not known:
        return None
    padding = (b"",) * (vocab_size - len(vocabulary.token_bytes))
    return TokenTable(
        token_bytes=vocabulary.token_bytes + padding,
        control_ids=tuple(sorted(vocabulary.unspeakable_ids | known)),
        eos_ids=tuple(sorted(known)),
    )


def open_tokens(table: TokenTable) -> LLTokenizer:
    """Builds the trie of all tokens, about 2 µs and half a kilobyte per token. Raises `ValueError`."""
    try:
        return LLTokenizer(_Wrapper(table), eos_token=list(table.eos_ids))  # type: ignore[arg-type]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the library is no `Exception`
        raise ValueError(str(error)) from error


class _Wrapper:
    """What `LLTokenizer` asks of a tokenizer, by shape."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, table: TokenTable) -> None:
        self.tokens = list(table.token_bytes)
        self.special_token_ids = list(table.control_ids)
        self.eos_token_id = table.eos_ids[0]

    def __call__(self, text: str) -> list[int]:
        raise AssertionError("grammars are compiled without forced spellings (source.py)")
