"""The rule of `worker.engine.chunking` against the operator it was made for."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from worker.engine.chunking import is_lonely

NUM_HEADS = 2
NUM_TOKENS = 300


@pytest.mark.parametrize("head_size", [16, 40, 64, 80])
def test_a_token_attends_the_same_in_every_run_that_leaves_no_row_alone(head_size: int) -> None:
    """The last of 300 tokens, computed in runs of 2 to 299 rows after a past of the rest: one and the same bits."""
    session = _attention(head_size)
    rng = np.random.default_rng(7)
    query = rng.standard_normal((1, NUM_TOKENS, NUM_HEADS * head_size), np.float32)
    key, value = rng.standard_normal((2, 1, NUM_TOKENS, head_size), np.float32)

    outputs = set()
    for num_rows in range(2, NUM_TOKENS):
        if is_lonely(num_rows):
            continue
        past = NUM_TOKENS - num_rows
        (output, *_) = session.run(
            None,
            {
                "query": query[:, past:],
                "key": key[:, past:],
                "value": value[:, past:],
                "past_key": key[:, None, :past],
                "past_value": value[:, None, :past],
                "seqlens_k": np.array([NUM_TOKENS - 1], np.int32),
                "total": np.array([NUM_TOKENS], np.int32),
            },
        )
        outputs.add(output[0, -1].tobytes())
    assert len(outputs) == 1


def _attention(head_size: int) -> ort.InferenceSession:
    """One GroupQueryAttention node: 2 query heads, 1 key/value head, fp32, one thread."""

    def floats(name: str, *shape: int | str) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    def ints(name: str) -> object:
        return helper.make_tensor_value_info(name, TensorProto.INT32, [1])

    names = ["query", "key", "value", "past_key", "past_value", "seqlens_k", "total"]
    node = helper.make_node(
        "GroupQueryAttention",
        names,
        ["output", "present_key", "present_value"],
        domain="com.microsoft",
        num_heads=NUM_HEADS,
        kv_num_heads=1,
    )
    graph = helper.make_graph(
        [node],
        "attention",
        [
            floats("query", 1, "rows", NUM_HEADS * head_size),
            floats("key", 1, "rows", head_size),
            floats("value", 1, "rows", head_size),
            floats("past_key", 1, 1, "past", head_size),
            floats("past_value", 1, 1, "past", head_size),
            ints("seqlens_k"),
            ints("total"),
        ],
        [
            floats("output", 1, "rows", NUM_HEADS * head_size),
            floats("present_key", 1, 1, "all", head_size),
            floats("present_value", 1, 1, "all", head_size),
        ],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)],
        ir_version=10,
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
