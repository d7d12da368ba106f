"""The largest number of each row, beside NumPy's, in every instruction set."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tests.support.kernels import EVERY_ISA, open_graph
from tests.support.tiny_models import NEEDS_NATIVE
from worker.kernels.library import DOMAIN, isas_here

pytestmark = NEEDS_NATIVE


@cache
def session(isa: str) -> ort.InferenceSession:
    graph = helper.make_graph(
        [helper.make_node("Largest", ["x"], ["y"], domain=DOMAIN)],
        "largest",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", "size"])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, ["rows"])],
    )
    return open_graph(graph, isa)


def found(x: npt.NDArray[np.float32], isa: str) -> list[int]:
    y: npt.NDArray[np.int64] = session(isa).run(None, {"x": x})[0]
    assert y.dtype == np.int64
    return y.tolist()


@settings(deadline=None, max_examples=80)
@given(
    rows=st.integers(0, 20),
    size=st.integers(1, 70) | st.sampled_from([49152, 50257]),
    values=st.sampled_from([1, 3, 1000]),
    seed=st.integers(0, 99),
)
def test_as_numpy_finds_it_the_first_among_equals(
    rows: int, size: int, values: int, seed: int
) -> None:
    """Few different values have many equals; all of one value have nothing else. Zeros have both signs."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-values, 1, (rows, size)).astype(np.float32) * np.float32(1e-40)
    x[rng.random(x.shape) < 0.1] *= -0.0
    for isa in isas_here():
        assert found(x, isa) == x.argmax(axis=1).tolist(), isa


@EVERY_ISA
@pytest.mark.parametrize("size", [1, 15, 16, 17, 100])
def test_every_place_can_be_the_largest(isa: str, size: int) -> None:
    x = np.full((size, size), -3e38, np.float32)
    np.fill_diagonal(x, -2.9e38)
    assert found(x, isa) == list(range(size))


@EVERY_ISA
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [0, 15, 16, 36])
def test_a_row_that_is_not_finite_has_none(isa: str, bad: float, at: int) -> None:
    x = np.zeros((3, 37), np.float32)
    x[:, 20] = 1
    x[1, at] = bad
    assert found(x, isa) == [20, -1, 20]


@EVERY_ISA
def test_rows_without_numbers_are_refused(isa: str) -> None:
    with pytest.raises(Exception, match=r"lepton\.Largest: x is not"):
        found(np.zeros((2, 0), np.float32), isa)
