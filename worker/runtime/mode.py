"""What a worker promises about its tokens."""

from __future__ import annotations

from typing import Final, Literal

__all__ = ["EXACT_BLOCK_MAX", "Mode"]

Mode = Literal["exact", "fast"]
"""exact: a request gets the same tokens, to the bit, alone and in any company. Which form of the weights computes is
chosen by phase, never by the number of rows. fast: everything is allowed that is measured to be faster."""

EXACT_BLOCK_MAX: Final = 32
"""Largest block of quantised weights with which ONNX Runtime's MatMulNBits gives a row the same bits in any company
(docs/adr/0004-kv-slots-and-runs.md has the measurements)."""
