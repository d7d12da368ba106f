"""How keys and values are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import onnx
from onnx import TensorProto

__all__ = ["FP16", "FP32", "INT8", "KvPrecision", "KvPrecisionName", "kv_precision_named"]

KvPrecisionName = Literal["auto", "fp32", "fp16", "int8"]
"""`auto`: what the graph was exported with; where our operators compute and weights are quantised in blocks, which
costs far more, fp16."""


@dataclass(frozen=True, slots=True)
class KvPrecision:
    """A form of the numbers in rows and blocks."""

    name: str
    dtype: type[np.generic]
    onnx_type: int
    is_scaled: bool
    """Whether each position of each head has a float32 scale beside its numbers."""

    @property
    def num_bytes(self) -> int:
        """Of one number."""
        return int(np.dtype(self.dtype).itemsize)

    def position_bytes(self, head_size: int) -> int:
        """Of one position's key, or value, of one head."""
        return head_size * self.num_bytes + self.is_scaled * np.float32().nbytes


FP32: Final = KvPrecision("fp32", np.float32, TensorProto.FLOAT, is_scaled=False)
FP16: Final = KvPrecision("fp16", np.float16, TensorProto.FLOAT16, is_scaled=False)
INT8: Final = KvPrecision("int8", np.int8, TensorProto.INT8, is_scaled=True)
_ALL: Final = {precision.name: precision for precision in (FP32, FP16, INT8)}


def kv_precision_named(name: KvPrecisionName, model: onnx.ModelProto) -> KvPrecision:
    """What `name` means for a graph on our own operators."""
    if name != "auto":
        return _ALL[name]
    return FP16 if any(node.op_type == "MatMulNBits" for node in model.graph.node) else FP32
