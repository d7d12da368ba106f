"""Products of 8-bit integers beside ONNX Runtime's own kernel and plain NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from common.errors import BadModel, Reason
from tests.support.processes import DEMO_MODEL
from tests.support.tiny_models import (
    TINY_LLAMA,
    TINY_LLAMA_INT4,
    TINY_LLAMA_INT4_BLOCK64,
    copy_model,
)
from worker.runtime.graphs.row_int8 import with_row_int8
from worker.runtime.graphs.weights import RewrittenGraph, block_weights
from worker.runtime.model import load_model

Array = npt.NDArray[Any]
OUTPUTS = 24


def make_product(
    *,
    size: int,
    bits: int = 4,
    block: int = 32,
    zeros: str = "none",
    bias: bool = False,
    seed: int = 1,
) -> onnx.ModelProto:
    """y = MatMulNBits(x) with random weights, two of them on one input."""
    rng, num_blocks = np.random.default_rng(seed), -(-size // block)
    nodes, tensors = [], []
    for y in ("y", "z"):
        packed = rng.integers(0, 256, (OUTPUTS, num_blocks, block * bits // 8)).astype(np.uint8)
        values = {f"{y}.w": packed, f"{y}.s": rng.uniform(0.001, 0.1, OUTPUTS * num_blocks)}
        inputs = ["x", f"{y}.w", f"{y}.s", "", "", ""]
        if zeros == "packed":
            columns = -(-num_blocks * bits // 8)
            values[f"{y}.z"] = rng.integers(0, 256, OUTPUTS * columns).astype(np.uint8)
            inputs[3] = f"{y}.z"
        if zeros == "float":
            values[f"{y}.z"] = rng.uniform(0, 1 << bits, OUTPUTS * num_blocks)
            inputs[3] = f"{y}.z"
        if bias:
            values[f"{y}.b"] = rng.normal(0, 1, OUTPUTS)
            inputs[5] = f"{y}.b"
        tensors += [
            numpy_helper.from_array(
                value if value.dtype == np.uint8 else value.astype(np.float32), name
            )
            for name, value in values.items()
        ]
        while not inputs[-1]:
            inputs.pop()
        attributes = {"K": size, "N": OUTPUTS, "bits": bits, "block_size": block}
        node = helper.make_node(
            "MatMulNBits",
            inputs,
            [y],
            name=y,
            domain="com.microsoft",
            accuracy_level=1,
            **attributes,
        )
        nodes.append(node)
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", "positions", size])],
        [
            helper.make_tensor_value_info(y, TensorProto.FLOAT, ["rows", "positions", OUTPUTS])
            for y in ("y", "z")
        ],
        initializer=tensors,
    )
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=10)


def tensors_of(model: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def run(model: onnx.ModelProto, x: Array) -> list[Array]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    found: list[Array] = ort.InferenceSession(model.SerializeToString(), options).run(
        None, {"x": x}
    )
    return found


def run_int8(edited: RewrittenGraph, x: Array) -> list[Array]:
    """With the weights inside, so that nothing here depends on how a worker hands them over."""
    model = onnx.ModelProto()
    model.CopyFrom(edited.model)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                inside = numpy_helper.from_array(edited.files[entry.value], tensor.name)
                break
        else:
            continue
        tensor.CopyFrom(inside)
    return run(model, x)


def int8(model: onnx.ModelProto, tmp_path: Path) -> RewrittenGraph:
    file = tmp_path / "model.onnx"
    file.write_bytes(model.SerializeToString())
    return with_row_int8(model, file)


FORMS = [
    {"size": 64},
    {"size": 64, "block": 16},
    {"size": 80},
    {"size": 128, "bits": 8},
    {"size": 128, "block": 128},
    {"size": 96, "zeros": "packed"},
    {"size": 96, "bits": 8, "zeros": "packed"},
    {"size": 96, "zeros": "float"},
    {"size": 64, "bias": True},
]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_weights_are_read_as_onnxruntime_reads_them(form: dict[str, Any]) -> None:
    model = make_product(**(form | {"bias": False}))
    for node, product in zip(
        model.graph.node, run(model, np.eye(form["size"], dtype=np.float32)[None]), strict=True
    ):
        weights = block_weights(node, tensors_of(model)).dequantized()
        np.testing.assert_allclose(weights.T, product[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_product_is_nearly_that_of_real_numbers(form: dict[str, Any], tmp_path: Path) -> None:
    model = make_product(**form)
    x = np.random.default_rng(4).normal(0, 1, (2, 9, form["size"])).astype(np.float32)
    edited = int8(model, tmp_path)
    assert not [node for node in edited.model.graph.node if node.op_type == "MatMulNBits"]
    for exact, ours in zip(run(model, x), run_int8(edited, x), strict=True):
        assert float(np.abs(exact - ours).max()) < 0.05 * float(exact.std())


def test_products_of_one_input_round_it_once(tmp_path: Path) -> None:
    graph = int8(make_product(size=64), tmp_path).model.graph
    assert [node.op_type for node in graph.node].count("QuantizeLinear") == 1
    assert {tensor.name for tensor in graph.initializer}.isdisjoint({"y.w", "y.s", "z.w", "z.s"})


@settings(max_examples=30, deadline=None)
@given(positions=st.integers(1, 70), seed=st.integers(0, 99))
def test_a_position_gets_the_same_bits_in_any_company(
    tmp_path_factory: pytest.TempPathFactory, positions: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("product")
    edited = int8(make_product(size=96), folder)
    rng = np.random.default_rng(seed)
    x = (
        rng.normal(0, 1, (1, positions, 96)) * rng.choice([1e-3, 1, 50], (1, positions, 1))
    ).astype(np.float32)
    together = run_int8(edited, x)[0]
    at = int(rng.integers(positions))
    alone = run_int8(edited, x[:, at : at + 1])[0]
    assert alone.tobytes() == together[:, at : at + 1].tobytes()


def test_nothing_gives_nothing_and_what_is_huge_stays_finite(tmp_path: Path) -> None:
    edited = int8(make_product(size=64), tmp_path)
    x = np.zeros((1, 3, 64), np.float32)
    x[0, 1] = 1e30
    product = run_int8(edited, x)[0]
    assert not product[0, [0, 2]].any()
    assert np.isfinite(product).all()


def test_the_head_keeps_its_form() -> None:
    file = TINY_LLAMA_INT4 / "model.onnx"
    model = onnx.load(file, load_external_data=False)
    graph = with_row_int8(model, file, keep=["logits"]).model.graph
    assert [node.output[0] for node in graph.node if node.op_type == "MatMulNBits"] == ["logits"]


def test_a_model_without_blocks_has_one_form() -> None:
    file = TINY_LLAMA / "model.onnx"
    assert not with_row_int8(onnx.load(file, load_external_data=False), file).files
    info = load_model(
        TINY_LLAMA, name="tiny", threads=1, kernels="portable", prefill_int8=True
    ).info
    assert "prefill" not in info.fingerprint


def test_the_demo_model_answers_its_golden_prompt_in_this_form() -> None:
    info = load_model(
        DEMO_MODEL, name="demo", threads=1, kernels="portable", prefill_int8=True
    ).info
    assert "int4-block32+prefill-int8" in info.fingerprint


def test_exact_is_refused_where_it_cannot_be_kept() -> None:
    with pytest.raises(BadModel, match="prefill_int8 for weights in blocks of 64") as caught:
        load_model(
            TINY_LLAMA_INT4_BLOCK64, name="tiny", threads=1, kernels="portable", prefill_int8=False
        )
    assert caught.value.reason is Reason.MODEL_GRAPH_UNSUPPORTED


@pytest.mark.parametrize("source", [TINY_LLAMA_INT4, TINY_LLAMA_INT4_BLOCK64], ids=lambda f: f.name)
@pytest.mark.parametrize(
    ("harm", "reason"),
    [("missing", Reason.MODEL_FILE_MISSING), ("cut", Reason.MODEL_FILE_INVALID)],
)
def test_weights_that_cannot_be_read_name_their_file(
    source: Path, harm: str, reason: Reason, tmp_path: Path
) -> None:
    folder = copy_model(source, tmp_path / "model")
    data = folder / "model.onnx.data"
    if harm == "missing":
        data.unlink()
    else:
        data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(BadModel) as caught:
        load_model(folder, name="tiny", threads=1, kernels="portable", prefill_int8=True)
    assert caught.value.reason is reason
    assert caught.value.message.startswith("model.onnx")
