"""A table that is read out of the quantised output matrix has that matrix's rows, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import (
    KQuantWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
)

from worker.conversion.tied import share_embedding
from worker.runtime.graphs.weights import block_weights

VOCAB = 50


def _tied(size: int) -> onnx.ModelProto:
    """ids → table row → logits, where the table [V, K] is the transposed output matrix [K, V]."""
    weights = np.random.default_rng(3).normal(size=(size, VOCAB)).astype(np.float32)
    nodes = [
        helper.make_node("Transpose", ["W"], ["table"], perm=[1, 0]),
        helper.make_node("Gather", ["table", "ids"], ["x"], name="/embed/Gather"),
        helper.make_node("MatMul", ["x", "W"], ["logits"], name="/head/MatMul"),
    ]
    graph = helper.make_graph(
        nodes,
        "tied",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", size]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", VOCAB]),
        ],
        [numpy_helper.from_array(weights, "W")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    return model


@pytest.mark.parametrize("algorithm", ["default", "k_quant"])
@pytest.mark.parametrize("size", [64, 40, 128])
def test_rows_of_the_table_are_those_of_the_matrix(
    algorithm: str, size: int, tmp_path: Path
) -> None:
    config = KQuantWeightOnlyQuantConfig() if algorithm == "k_quant" else None
    quantizer = MatMulNBitsQuantizer(
        _tied(size), block_size=32, is_symmetric=True, algo_config=config
    )
    quantizer.process()
    model = quantizer.model.model
    share_embedding(model.graph)
    assert {"Gather", "Transpose", "MatMul"}.isdisjoint(node.op_type for node in model.graph.node)
    assert "W" not in {tensor.name for tensor in model.graph.initializer}

    ids = np.array([0, 7, VOCAB - 1, 7], np.int64)
    session = ort.InferenceSession(model.SerializeToString())
    found = session.run(["x"], {"ids": ids})[0]
    (product,) = [node for node in model.graph.node if node.op_type == "MatMulNBits"]
    tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    np.testing.assert_array_equal(found, block_weights(product, tensors).dequantized()[ids])


def test_a_table_of_its_own_is_left_alone() -> None:
    model = _tied(64)
    before = model.SerializeToString()
    share_embedding(model.graph)  # nothing is quantised yet
    assert model.SerializeToString() == before
