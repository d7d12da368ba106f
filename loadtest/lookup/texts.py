"""Prompts, and the answers that are drawn to them: as a model would give them that edits, sums up, or babbles.

edit      the prompt again, a token in `EDIT_EVERY` replaced: what a corrected text or a changed program looks like
summary   pieces of the prompt, 6 to 16 tokens long, with 3 to 8 new ones between them
babble    a few words in random order: the last tokens have often been there, and what came then says nothing now
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from loadtest.engines.api import random_prompts

__all__ = ["KINDS", "Text", "make_texts"]

KINDS: Final = ("edit", "summary", "babble")
EDIT_EVERY: Final = 20
_BABBLE_WORDS: Final = 6


@dataclass(frozen=True, slots=True)
class Text:
    prompt: list[int]
    answer: list[int]


def make_texts(
    kind: str, num: int, *, prompt_tokens: int, tokens: int, vocab_size: int, seed: int
) -> list[Text]:
    """`num` different ones of a kind; the same for the same seed. Ids from 10 on, below are special tokens."""
    rng = random.Random(f"{kind} {num} {seed}")
    texts = []
    for prompt in random_prompts(num, prompt_tokens, vocab_size=vocab_size, seed=seed):
        words = _words(kind, prompt, rng, vocab_size)
        texts.append(Text(prompt, [next(words) for _ in range(tokens)]))
    return texts


def _words(kind: str, prompt: list[int], rng: random.Random, vocab_size: int) -> Iterator[int]:
    while kind == "edit":
        for token_id in prompt:
            yield rng.randrange(10, vocab_size) if rng.random() < 1 / EDIT_EVERY else token_id
    while kind == "summary":
        start = rng.randrange(len(prompt))
        yield from prompt[start : start + rng.randint(6, 16)]
        yield from (rng.randrange(10, vocab_size) for _ in range(rng.randint(3, 8)))
    while kind == "babble":
        yield 10 + rng.randrange(_BABBLE_WORDS)
    raise ValueError(f"what is {kind!r}?")
