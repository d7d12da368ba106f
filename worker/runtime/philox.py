"""Random numbers without state: u = Philox(seed, choice, position).

Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011). The same three
numbers give the same draw on any machine, in any batch, after any migration.
"""

from __future__ import annotations

from typing import Final

__all__ = ["philox4x32", "uniform"]

MULTIPLIERS: Final = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS: Final = (0x9E3779B9, 0xBB67AE85)
ROUNDS: Final = 10
MASK: Final = 0xFFFFFFFF


def philox4x32(
    counter: tuple[int, int, int, int], key: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Four 32-bit words from a counter of four and a key of two."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        p0, p1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK, (p0 >> 32) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + KEY_STEPS[0]) & MASK, (k1 + KEY_STEPS[1]) & MASK
    return c0, c1, c2, c3


def uniform(seed: int, choice: int, position: int) -> float:
    """A number in [0, 1) with 53 random bits. `seed` is taken modulo 2⁶⁴, `choice` and `position` modulo 2³²."""
    words = philox4x32((position & MASK, choice & MASK, 0, 0), (seed & MASK, (seed >> 32) & MASK))
    return ((words[0] << 32 | words[1]) >> 11) * 2.0**-53
