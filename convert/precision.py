"""How the weights of a served folder are stored, as a user may choose it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from common.errors import InvalidRequest, Reason

__all__ = ["ACCURACY_LEVEL", "BLOCK_SIZE", "BLOCK_SIZES", "Algorithm", "Precision", "Storage"]

BLOCK_SIZE: Final = 128
BLOCK_SIZES: Final = (16, 32, 64, 128, 256)
"""Those that ONNX Runtime's MatMulNBits has kernels for."""
ACCURACY_LEVEL: Final = 4
"""Of MatMulNBits: products of 8-bit integers where the processor can."""


class Precision(StrEnum):
    """Bits of a weight."""

    INT4 = "int4"
    INT8 = "int8"
    FP32 = "fp32"


class Algorithm(StrEnum):
    """How weights are rounded (`worker.conversion.quantizer`)."""

    DEFAULT = "default"
    K_QUANT = "k_quant"
    RTN = "rtn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """A precision and, for rounded weights, how they are rounded."""

    precision: Precision
    block_size: int | None = None
    """Values that share a scale; None for fp32."""
    algorithm: Algorithm = Algorithm.DEFAULT

    @classmethod
    def of(
        cls,
        precision: Precision,
        block_size: int | None = None,
        algorithm: Algorithm = Algorithm.DEFAULT,
    ) -> Storage:
        """With the default block where none is given. Raises `InvalidRequest` for what does not go together."""
        if precision is Precision.FP32:
            if block_size is not None:
                raise InvalidRequest(
                    "--block-size: fp32 weights have no blocks",
                    reason=Reason.FIELD_MALFORMED,
                    field="block_size",
                )
            return cls(precision=precision)
        block_size = BLOCK_SIZE if block_size is None else block_size
        if block_size not in BLOCK_SIZES:
            raise InvalidRequest(
                f"--block-size {block_size}: must be one of {', '.join(map(str, BLOCK_SIZES))}",
                reason=Reason.FIELD_OUT_OF_RANGE,
                field="block_size",
            )
        return cls(precision=precision, block_size=block_size, algorithm=algorithm)

    @property
    def bits(self) -> int:
        """Of a stored weight."""
        return {Precision.INT4: 4, Precision.INT8: 8, Precision.FP32: 32}[self.precision]

    @property
    def is_rounded(self) -> bool:
        return self.precision is not Precision.FP32

    def __str__(self) -> str:
        """For example "int4, blocks of 128"."""
        return f"{self.precision}, blocks of {self.block_size}" if self.is_rounded else "fp32"

    def options(self) -> list[str]:
        """As command lines spell it, without the algorithm, which only one command takes."""
        if not self.is_rounded:
            return ["--precision", self.precision]
        return ["--precision", self.precision, "--block-size", str(self.block_size)]

    def record(self) -> dict[str, Any]:
        """As manifest.json has it."""
        if not self.is_rounded:
            return {"precision": self.precision.value}
        return {
            "precision": self.precision.value,
            "block_size": self.block_size,
            "accuracy_level": ACCURACY_LEVEL,
            "algorithm": self.algorithm.value,
        }
