"""Our products with block-quantised weights beside plain NumPy, and beside themselves in other company."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.support.kernels import EVERY_ISA, open_graph
from tests.support.tiny_models import NEEDS_NATIVE
from worker.kernels.library import DOMAIN, isas_here
from worker.kernels.packing import gated_order, pack_per_block, pack_weights

Floats = npt.NDArray[np.float32]
pytestmark = NEEDS_NATIVE


class Product:
    """y = x · Wᵀ + b with random weights."""

    def __init__(
        self,
        *,
        size: int,
        outputs: int,
        bits: int,
        block: int,
        zeros: bool = False,
        bias: bool = False,
        seed: int = 1,
        largest: bool = False,
    ) -> None:
        """With `largest` every weight is the largest that there is."""
        rng, num_blocks = np.random.default_rng(seed), -(-size // block)
        self.size, self.block = size, block
        self.values = rng.integers(0, 1 << bits, (outputs, size)).astype(np.uint8)
        if largest:
            self.values[:] = (1 << bits) - 1
        self.scales = rng.uniform(0.001, 0.1, (outputs, num_blocks)).astype(np.float32)
        self.middle = np.full((outputs, num_blocks), 1 << (bits - 1), np.float32)
        if zeros:
            self.middle = rng.uniform(0, 1 << bits, (outputs, num_blocks)).astype(np.float32)
        self.bias = rng.normal(0, 1, outputs).astype(np.float32) * bias
        tensors = {
            "w": pack_weights(self.values, bits),
            "s": pack_per_block(self.scales),
            "z": pack_per_block(self.middle),
            "b": self.bias,
        }
        self._sessions = {
            isa: session(
                ["x", "w", "s", "z" if zeros else "", "b" if bias else ""],
                tensors,
                {"K": size, "N": outputs, "bits": bits, "block_size": block, "gated": 0},
                size,
                isa,
            )
            for isa in isas_here()
        }

    def run(self, x: Floats, isa: str) -> Floats:
        found: Floats = self._sessions[isa].run(None, {"x": x})[0]
        return found

    def expected(self, x: Floats) -> npt.NDArray[np.float64]:
        """With activations rounded to 8 bits by block, as the kernel does, and all else in float64."""
        y = np.tile(self.bias.astype(np.float64), (len(x), 1))
        for index in range(self.scales.shape[1]):
            columns = slice(index * self.block, min((index + 1) * self.block, self.size))
            part = x[:, columns].astype(np.float64)
            scale = np.abs(part).max(axis=1, keepdims=True) / 127
            rounded = np.rint(np.divide(part, scale, out=np.zeros_like(part), where=scale > 0))
            weights = self.values[:, columns] - self.middle[:, index, None].astype(np.float64)
            y += scale * (rounded @ weights.T) * self.scales[:, index]
        return y


def session(
    inputs: list[str], tensors: dict[str, Any], attributes: dict[str, int], size: int, isa: str
) -> ort.InferenceSession:
    graph = helper.make_graph(
        [helper.make_node("BlockMatMul", inputs, ["y"], domain=DOMAIN, **attributes)],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["positions", size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["positions", "outputs"])],
        initializer=[
            numpy_helper.from_array(array, name)
            for name, array in tensors.items()
            if name in inputs
        ],
    )
    return open_graph(graph, isa)


def activations(rows: int, size: int, seed: int) -> Floats:
    """Of very different sizes, with a row and a stretch of zeros, as a padded or dead channel gives them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (rows, size)) * 10.0 ** rng.integers(-3, 4, (rows, 1))
    x[rows // 2] = 0
    x[:, : size // 3 // 16 * 16] *= rng.integers(0, 2)
    return x.astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(
    size=st.sampled_from([16, 40, 64, 72, 200, 576]),
    outputs=st.sampled_from([1, 16, 31, 33, 64, 100]),
    bits=st.sampled_from([4, 8]),
    block=st.sampled_from([16, 32, 64, 128, 256]),
    zeros=st.booleans(),
    bias=st.booleans(),
    rows=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_computes_what_plain_numpy_computes(
    *,
    size: int,
    outputs: int,
    bits: int,
    block: int,
    zeros: bool,
    bias: bool,
    rows: int,
    seed: int,
) -> None:
    product = Product(
        size=size, outputs=outputs, bits=bits, block=block, zeros=zeros, bias=bias, seed=seed
    )
    x = activations(rows, size, seed)
    first, *others = isas_here()
    y, expected = product.run(x, first), product.expected(x)
    # A value in the middle between two integers may round either way: that is one step of one weight.
    step = np.abs(x).max(axis=1, keepdims=True) / 127 * (1 << bits) * product.scales.max()
    assert (np.abs(y - expected) <= 1e-4 * np.abs(expected) + step + 1e-6).all()
    assert np.median(np.abs(y - expected) / (step + 1e-6)) < 1e-3
    cut = seed % rows
    for isa in (first, *others):
        apart = np.concatenate([product.run(part, isa) for part in (x[:cut], x[cut:])])
        assert apart.tobytes() == y.tobytes(), f"a position depends on its company or on {isa}"


@EVERY_ISA
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block", [16, 32, 64, 1024])
def test_sums_are_exact_where_bytes_are_largest(isa: str, bits: int, block: int) -> None:
    """Two products of 255 and 127 do not fit into 16 bits, where AVX2's instruction for them would saturate."""
    product = Product(size=1024, outputs=40, bits=bits, block=block, largest=True)
    x = np.ones((9, 1024), np.float32) * np.array([1, -1, 3] * 3, np.float32)[:, None]
    np.testing.assert_allclose(product.run(x, isa), product.expected(x), rtol=1e-5)


@EVERY_ISA
@pytest.mark.parametrize("num_gates", [16, 48, 96])
def test_a_gated_product_is_two_products_and_their_gate(num_gates: int, isa: str) -> None:
    product = Product(size=72, outputs=2 * num_gates, bits=4, block=32, seed=num_gates)
    order = gated_order(num_gates)
    tensors = {
        "w": pack_weights(product.values[order], 4),
        "s": pack_per_block(product.scales[order]),
    }
    attributes = {"K": 72, "N": 2 * num_gates, "bits": 4, "block_size": 32, "gated": 1}
    x = activations(11, 72, 3)
    found, reference = (
        session(["x", "w", "s"], tensors, attributes, 72, name).run(None, {"x": x})[0]
        for name in (isa, isas_here()[0])
    )
    assert found.tobytes() == reference.tobytes()
    gate, other = np.split(product.run(x, isa).astype(np.float64), 2, axis=1)
    with np.errstate(over="ignore"):
        expected = gate / (1 + np.exp(-gate)) * other
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-30)


@EVERY_ISA
def test_no_positions_are_no_work(isa: str) -> None:
    product = Product(size=64, outputs=40, bits=4, block=32)
    assert product.run(np.zeros((0, 64), np.float32), isa).shape == (0, 40)


@EVERY_ISA
def test_what_is_no_number_stays_in_its_position(isa: str) -> None:
    product = Product(size=64, outputs=40, bits=4, block=32)
    x = activations(20, 64, 1)
    clean = product.run(x, isa)
    x[3, 5] = np.nan
    dirty = product.run(x, isa)
    others = [row for row in range(20) if row != 3]
    assert dirty[others].tobytes() == clean[others].tobytes()
    assert not np.isfinite(dirty[3]).any()


@pytest.mark.parametrize("wrong", ["w", "s", "b"])
def test_shapes_that_do_not_fit_are_an_error(wrong: str) -> None:
    tensors = {
        "w": pack_weights(np.zeros((64, 64), np.uint8), 4),
        "s": pack_per_block(np.zeros((64, 2), np.float32)),
        "b": np.zeros(64, np.float32),
    }
    tensors[wrong] = tensors[wrong][:-1]
    attributes = {"K": 64, "N": 64, "bits": 4, "block_size": 32, "gated": 0}
    made = session(["x", "w", "s", "", "b"], tensors, attributes, 64, isas_here()[0])
    with pytest.raises(Exception, match="shapes do not fit"):
        made.run(None, {"x": np.zeros((2, 64), np.float32)})


@pytest.mark.parametrize("change", [{"bits": 3}, {"block_size": 24}, {"K": 0}])
def test_attributes_out_of_range_are_an_error(change: dict[str, int]) -> None:
    attributes = {"K": 64, "N": 64, "bits": 4, "block_size": 32, "gated": 0} | change
    tensors = {"w": np.zeros((1, 1), np.uint8), "s": np.zeros((1, 1, 32), np.float32)}
    with pytest.raises(Exception, match="out of range"):
        session(["x", "w", "s"], tensors, attributes, 64, isas_here()[0])


def test_an_instruction_set_that_is_not_here_is_an_error() -> None:
    attributes = {"K": 64, "N": 64, "bits": 4, "block_size": 32, "gated": 0}
    tensors = {"w": np.zeros((1, 1), np.uint8), "s": np.zeros((1, 1, 32), np.float32)}
    with pytest.raises(Exception, match="lacks the node's instruction set"):
        session(["x", "w", "s"], tensors, attributes, 64, "sse2")
