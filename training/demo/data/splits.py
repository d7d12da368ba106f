"""Who may see what: every pair of operands, entity and sentence frame is in one split only.

Entities and operand pairs are told apart by a hash, so that pools may be unbounded (made-up
names) and the split needs no list. Frames are listed by hand, in two tuples beside each other:
a held-out frame is written with words that training knows, in an order that it does not.
"""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "test"]

HELD_OUT_PARTS = 10
"""One part in this many is held out."""


def split_of(kind: str, key: str) -> Split:
    """Say to which split `key` of this kind belongs. The same for ever, on every machine."""
    digest = hashlib.sha256(f"{kind}:{key.lower()}".encode()).digest()
    return "test" if digest[0] * 256 + digest[1] < 65536 // HELD_OUT_PARTS else "train"


def draw(rng: random.Random, split: Split, kind: str, sample: Callable[[], str]) -> str:
    """Draw from `sample` until a value of this split comes."""
    for _ in range(10_000):
        value = sample()
        if split_of(kind, value) == split:
            return value
    raise RuntimeError(f"no {kind} of the {split} split in 10,000 draws")


def draw_pair(rng: random.Random, split: Split, low: int, high: int) -> tuple[int, int]:
    """Draw two operands from `low` to `high`; `a, b` and `b, a` are always in the same split."""
    for _ in range(10_000):
        a, b = rng.randint(low, high), rng.randint(low, high)
        if pair_split(a, b) == split:
            return a, b
    raise RuntimeError(f"no pair of the {split} split between {low} and {high}")


def pair_split(a: int, b: int) -> Split:
    """Say to which split a pair of operands belongs, whatever the order and the operation."""
    return split_of("pair", f"{min(a, b)},{max(a, b)}")


@dataclass(frozen=True, slots=True)
class Frames:
    """Sentence frames of one purpose, divided between the splits by hand."""

    train: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        if shared := {_bare(frame) for frame in self.train} & {_bare(frame) for frame in self.test}:
            raise ValueError(f"frames in both splits, but for case and punctuation: {shared}")

    def pick(self, rng: random.Random, split: Split) -> str:
        """Pick one frame of the split."""
        return rng.choice(self.train if split == "train" else self.test)


def _bare(frame: str) -> str:
    """Write a frame without what people leave out: capitals and the marks at its end."""
    return frame.casefold().rstrip("?.! ")
