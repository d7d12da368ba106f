"""Block-quantised weights → the order in which `src/isa/block_matmul_kernel.h` reads them.

    weights  uint8 [N, K] of 0 … 2^bits − 1  →  uint8 [N/32, K/8, 2, bits/4, 16, 4]: for 32 outputs 8 inputs at a time,
             as two times 16 outputs; of 4 bits the first four inputs are the low halves, the next the high halves
    scales   float32 [N, blocks]             →  float32 [N/32, blocks, 32]

N is filled up to a multiple of 32 with outputs of scale 0, K to a multiple of 8 with inputs that x does not have.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["gated_order", "pack_per_block", "pack_weights"]

_OUTPUTS: Final = 32
"""That one task computes, two times `LANES`."""
_INPUTS: Final = 8
"""That are read at a time."""


def pack_weights(values: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """[N, K] → as above."""
    num_outputs, size = values.shape
    padded = np.zeros((_up(num_outputs, _OUTPUTS), _up(size, _INPUTS)), np.uint8)
    padded[:num_outputs, :size] = values
    tiles = padded.reshape(-1, 2, 16, padded.shape[1] // _INPUTS, 2, 4).transpose(0, 3, 1, 4, 2, 5)
    if bits == 4:
        tiles = tiles[:, :, :, :1] | np.left_shift(tiles[:, :, :, 1:], np.uint8(4))
    return np.ascontiguousarray(tiles).reshape(len(tiles), -1)


def pack_per_block(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Scales or zero points, [N, blocks] → as above."""
    num_outputs, num_blocks = values.shape
    padded = np.zeros((_up(num_outputs, _OUTPUTS), num_blocks), np.float32)
    padded[:num_outputs] = values
    return np.ascontiguousarray(padded.reshape(-1, _OUTPUTS, num_blocks).transpose(0, 2, 1))


def gated_order(num_gates: int) -> npt.NDArray[np.intp]:
    """Of num_gates gates followed by as many others: their order in a gated product, 16 of each by turns.

    `num_gates` is a multiple of 16.
    """
    return np.arange(2 * num_gates).reshape(2, -1, _OUTPUTS // 2).transpose(1, 0, 2).reshape(-1)


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
