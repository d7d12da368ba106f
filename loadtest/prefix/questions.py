"""What is asked: questions about documents, a few of which are popular. A pure function of its seed.

The oracle engine's tokens are bytes, so lengths in bytes are lengths in tokens. No worker can hold all documents.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Final

from common import oracle
from worker.engine.prefix import BLOCK_TOKENS, block_keys, num_reusable

__all__ = ["CACHE_MIB", "Question", "cacheable_tokens", "make_questions"]

_DOCUMENTS: Final = 60
_DOCUMENT_BYTES: Final = (1024, 3072)
"""Shortest and longest."""
_QUESTION_BYTES: Final = (8, 200)
_ANSWER_TOKENS: Final = (8, 60)
CACHE_MIB: Final = 75
"""Of a worker. The oracle calls 16 blocks a MiB: 1,200, of about 3,800 that the documents have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request."""

    at: float
    """Seconds after the first."""
    text: str
    answer_tokens: int


def make_questions(num: int, *, per_s: float, seed: int) -> tuple[Question, ...]:
    """`num` of them in order of arrival (Poisson); document number n is asked about 1/n times as often (Zipf)."""
    random = Random(seed)
    documents = [_words(random, random.randint(*_DOCUMENT_BYTES)) for _ in range(_DOCUMENTS)]
    popularity = list(accumulate(1 / (rank + 1) for rank in range(_DOCUMENTS)))
    at, questions = 0.0, []
    for _ in range(num):
        document = random.choices(documents, cum_weights=popularity)[0]
        questions.append(
            Question(
                at=at,
                text=document + _words(random, random.randint(*_QUESTION_BYTES)),
                answer_tokens=random.randint(*_ANSWER_TOKENS),
            )
        )
        at += random.expovariate(per_s)
    return tuple(questions)


def cacheable_tokens(questions: Iterable[Question]) -> int:
    """Prompt tokens that one endless cache, which nobody has to find, would have held."""
    known: set[bytes] = set()
    tokens = 0
    for question in questions:
        ids = oracle.encode(question.text)
        keys = block_keys(ids, b"")
        for key in keys[: num_reusable(len(ids))]:
            if key not in known:
                break
            tokens += BLOCK_TOKENS
        known.update(keys)
    return tokens


def _words(random: Random, num_bytes: int) -> str:
    return "".join(random.choices("abcdefghijklmnopqrstuvwxyz ", k=num_bytes))
