"""What may be asked of a precision."""

from __future__ import annotations

import pytest

from common.errors import InvalidRequest
from convert.precision import BLOCK_SIZES, Precision, Storage


def test_blocks_of_128_unless_said() -> None:
    assert Storage.of(Precision.INT4).block_size == 128
    assert str(Storage.of(Precision.INT4)) == "int4, blocks of 128"
    assert Storage.of(Precision.FP32).block_size is None


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_every_block_that_has_kernels(block_size: int) -> None:
    assert Storage.of(Precision.INT8, block_size).record()["block_size"] == block_size


@pytest.mark.parametrize("block_size", [0, -32, 1, 48, 512])
def test_other_blocks_are_refused(block_size: int) -> None:
    with pytest.raises(InvalidRequest, match="must be one of 16, 32"):
        Storage.of(Precision.INT4, block_size)


def test_fp32_has_no_blocks() -> None:
    with pytest.raises(InvalidRequest, match="no blocks"):
        Storage.of(Precision.FP32, 32)
    assert Storage.of(Precision.FP32).record() == {"precision": "fp32"}
