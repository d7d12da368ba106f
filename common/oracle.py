"""The oracle: a model whose next token is a pure function, so that whoever asks knows the right answer beforehand.

    state_-1 = H(revision)      state_i = H(state_i-1, token_i)      over prompt and completion alike
    next     = draw(state of the last token, choice, seed when temperature > 0)

A state says what a transformer's keys and values say: everything up to its position. A worker that keeps states where
another keeps keys and values (`worker.oracle`) thus gives another answer as soon as anything went wrong with a row, a
shared prefix, or a replay. Pure: no model, no clock; `worker` computes with it and `chaos` checks with it.

    0            end of sequence
    1 … 256      the bytes of a prompt; never drawn
    257 … 1280   words of five characters, the space behind them included
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

__all__ = [
    "EOS_ID",
    "REVISION",
    "VOCAB_SIZE",
    "Turn",
    "advance",
    "draw",
    "encode",
    "encode_chat",
    "logprob",
    "most_likely",
    "root",
    "text_of",
    "tokens",
]

EOS_ID: Final = 0
_FIRST_BYTE: Final = 1
_FIRST_WORD: Final = 257
_SYLLABLES: Final = tuple(c + v for c in "bdfgklmn" for v in "aeio")
_NUM_WORDS: Final = len(_SYLLABLES) ** 2
VOCAB_SIZE: Final = _FIRST_WORD + _NUM_WORDS

REVISION: Final = hashlib.sha256(b"lepton oracle").hexdigest()
"""The revision of an oracle that was not told another."""

_STATE_BYTES: Final = 16


class Turn(Protocol):
    """One message of a conversation."""

    @property
    def role(self) -> str: ...

    @property
    def content(self) -> str: ...


def root(revision: str) -> bytes:
    """The state before the first token."""
    return _hash(revision.encode(), b"root")


def advance(state: bytes, token_id: int) -> bytes:
    """The state after one more token, of prompt or completion."""
    return _hash(state + token_id.to_bytes(4, "little"), b"next")


def draw(
    state: bytes, *, choice: int, seed: int | None, banned: frozenset[int] = frozenset()
) -> int:
    """The token that follows. `seed` is None for a greedy request; one in `banned` gives way to the next upwards."""
    key = repr((choice, seed)).encode()
    number = int.from_bytes(_hash(state + key, b"draw")[:4], "little") % (_NUM_WORDS + 1)
    for step in range(_NUM_WORDS + 1):
        drawn = (number + step) % (_NUM_WORDS + 1)
        token_id = _FIRST_WORD + drawn - 1 if drawn else EOS_ID
        if token_id not in banned:
            return token_id
    raise ValueError("every token is banned")


def tokens(
    revision: str, prompt_ids: Sequence[int], *, choice: int = 0, seed: int | None = None
) -> Iterator[int]:
    """The completion without any end, token by token."""
    state = root(revision)
    for token_id in prompt_ids:
        state = advance(state, token_id)
    while True:
        token_id = draw(state, choice=choice, seed=seed)
        yield token_id
        state = advance(state, token_id)


def logprob(state: bytes, token_id: int) -> float:
    """Of a token after `state`: between -8 and 0, a multiple of 1/256, so that it survives 32 bits unharmed."""
    return -(int.from_bytes(advance(state, token_id)[:2], "little") % 2048) / 256


def most_likely(state: bytes, num: int) -> list[tuple[int, float]]:
    """`num` (token, log-probability), best first; ties go to the lower id."""
    ids = (_FIRST_WORD + (state[i % _STATE_BYTES] + 256 * i) % _NUM_WORDS for i in range(num))
    return sorted(((i, logprob(state, i)) for i in set(ids)), key=lambda it: (-it[1], it[0]))


def encode(text: str) -> list[int]:
    """One token per byte of UTF-8: a completion that is sent back as text is thus another prompt."""
    return [_FIRST_BYTE + byte for byte in text.encode()]


def encode_chat(turns: Sequence[Turn], *, add_generation_prompt: bool) -> list[int]:
    """A line per message."""
    text = "".join(f"{turn.role}: {turn.content}\n" for turn in turns)
    return encode(text + ("assistant:" if add_generation_prompt else ""))


def text_of(token_id: int) -> bytes:
    """What a token stands for; nothing for the end of sequence."""
    if token_id >= _FIRST_WORD:
        first, second = divmod(token_id - _FIRST_WORD, len(_SYLLABLES))
        return f"{_SYLLABLES[first]}{_SYLLABLES[second]} ".encode()
    return bytes([token_id - _FIRST_BYTE]) if token_id != EOS_ID else b""


def _hash(data: bytes, what: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_STATE_BYTES, person=what).digest()
