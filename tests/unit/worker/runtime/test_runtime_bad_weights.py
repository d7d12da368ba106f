"""Quantised weights with one thing wrong: refused before anything is served, in every form in which they may compute.

ONNX Runtime checks what it loads itself. What we read and round once more (`worker.runtime.graphs.row_int8`) it never
sees, so everything that it would refuse must be refused here, too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper, numpy_helper

from common.errors import BadModel, Reason
from tests.support.tiny_models import (
    NEEDS_NATIVE,
    TINY_LLAMA_INT4,
    TINY_LLAMA_INT4_BLOCK64,
    copy_model,
)
from worker.kernels.library import Kernels
from worker.runtime.model import load_model

PACKED = "model.layers.1.attn.o_proj.MatMul.weight_Q4"
SCALES = "model.layers.1.attn.o_proj.MatMul.weight_scales"
OUTPUTS = 64
FORMS: dict[str, tuple[Path, bool, Kernels]] = {
    "stored": (TINY_LLAMA_INT4, False, "portable"),
    "prefill-int8": (TINY_LLAMA_INT4, True, "portable"),
    "as-int8": (TINY_LLAMA_INT4_BLOCK64, True, "portable"),
    "native": (TINY_LLAMA_INT4, False, "native"),
}
Array = npt.NDArray[Any]
Harm = Callable[[onnx.GraphProto, Path], None]


def tensor(graph: onnx.GraphProto, name: str) -> onnx.TensorProto:
    return next(item for item in graph.initializer if item.name == name)


def product(graph: onnx.GraphProto) -> onnx.NodeProto:
    return next(node for node in graph.node if PACKED in node.input)


def values(name: str, change: Callable[[Array], Array]) -> Harm:
    """Other numbers, inside the graph."""

    def harm(graph: onnx.GraphProto, folder: Path) -> None:
        item = tensor(graph, name)
        place = {entry.key: entry.value for entry in item.external_data}
        array = np.fromfile(
            folder / place["location"],
            helper.tensor_dtype_to_np_dtype(item.data_type),
            count=int(np.prod(item.dims)),
            offset=int(place["offset"]),
        ).reshape(tuple(item.dims))
        item.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(array)), name))

    return harm


def one_is(value: float) -> Callable[[Array], Array]:
    def change(array: Array) -> Array:
        array[3, 0] = value
        return array

    return change


def shape(name: str, *dims: int) -> Harm:
    """The numbers stay where they are; the graph says that they are more or fewer."""

    def harm(graph: onnx.GraphProto, _folder: Path) -> None:
        item = tensor(graph, name)
        del item.dims[:]
        item.dims.extend(dims)

    return harm


def place(key: str, value: str) -> Harm:
    def harm(graph: onnx.GraphProto, folder: Path) -> None:
        (folder.parent / "outside.data").write_bytes((folder / "model.onnx.data").read_bytes())
        entries = tensor(graph, PACKED).external_data
        next(entry for entry in entries if entry.key == key).value = value

    return harm


def attribute(name: str, value: int | None) -> Harm:
    def harm(graph: onnx.GraphProto, _folder: Path) -> None:
        node = product(graph)
        kept = [item for item in node.attribute if item.name != name]
        del node.attribute[:]
        node.attribute.extend(kept)
        if value is not None:
            node.attribute.append(helper.make_attribute(name, value))

    return harm


def extra_input(at: int, array: Array) -> Harm:
    def harm(graph: onnx.GraphProto, _folder: Path) -> None:
        node = product(graph)
        node.input.extend([""] * (at + 1 - len(node.input)))
        node.input[at] = "extra"
        graph.initializer.append(numpy_helper.from_array(array, "extra"))

    return harm


def no_input(at: int) -> Harm:
    def harm(graph: onnx.GraphProto, _folder: Path) -> None:
        product(graph).input[at] = ""

    return harm


def gone(name: str) -> Harm:
    return lambda graph, _folder: graph.initializer.remove(tensor(graph, name))


HARMS: dict[str, Harm] = {
    "packed: half of the outputs": values(PACKED, lambda a: a[: OUTPUTS // 2]),
    "packed: twice the outputs": values(PACKED, lambda a: np.concatenate([a, a])),
    "packed: flat": values(PACKED, lambda a: a.reshape(-1)),
    "packed: float": values(PACKED, lambda a: a.astype(np.float32)),
    "packed: shape larger than its bytes": shape(PACKED, OUTPUTS, 4, 16),
    "packed: shape negative": shape(PACKED, -1, 2, 16),
    "packed: no input": no_input(1),
    "packed: gone": gone(PACKED),
    "packed: offset beyond the file": place("offset", "999999999"),
    "packed: offset negative": place("offset", "-4096"),
    "packed: offset no number": place("offset", "x"),
    "packed: length of another shape": place("length", "7"),
    "packed: in a file that is not there": place("location", "weights.bin"),
    "packed: in a file outside of the folder": place("location", "../outside.data"),
    "scales: half": values(SCALES, lambda a: a[: OUTPUTS // 2]),
    "scales: twice": values(SCALES, lambda a: np.concatenate([a, a])),
    "scales: none": values(SCALES, lambda a: a[:0]),
    "scales: integers": values(SCALES, lambda a: a.astype(np.int32)),
    "scales: not a number": values(SCALES, one_is(np.nan)),
    "scales: infinite": values(SCALES, one_is(np.inf)),
    "scales: too large to multiply": values(SCALES, one_is(3e38)),
    "scales: no input": no_input(2),
    "scales: gone": gone(SCALES),
    "zero points: five": extra_input(3, np.zeros(5, np.uint8)),
    "zero points: five floats": extra_input(3, np.zeros(5, np.float32)),
    "K: twice": attribute("K", 128),
    "K: none": attribute("K", None),
    "N: half": attribute("N", OUTPUTS // 2),
    "bits: 2": attribute("bits", 2),
    "bits: 3": attribute("bits", 3),
    "bits: 8": attribute("bits", 8),
    "bits: 16": attribute("bits", 16),
    "block: 0": attribute("block_size", 0),
    "block: 24": attribute("block_size", 24),
    "block: negative": attribute("block_size", -32),
    "block: none": attribute("block_size", None),
}

STORED = (
    "packed: half of the outputs", "packed: shape larger than its bytes", "packed: length of another shape",
    "packed: in a file outside of the folder", "packed: gone", "scales: half", "scales: not a number", "bits: 3",
    "block: none",
)  # fmt: skip
"""Tried in the form that ONNX Runtime alone reads."""


def cases() -> list[Any]:
    return [
        pytest.param(
            form, harm, id=f"{form}-{harm}", marks=NEEDS_NATIVE if form == "native" else []
        )
        for form in FORMS
        for harm in (STORED if form == "stored" else HARMS)
    ]


@pytest.mark.parametrize(("form", "harm"), cases())
def test_a_wrong_tensor_is_refused_by_the_name_of_its_file(
    form: str, harm: str, tmp_path: Path
) -> None:
    source, prefill_int8, kernels = FORMS[form]
    folder = copy_model(source, tmp_path / "model")
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    HARMS[harm](model.graph, folder)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BadModel) as caught:
        load_model(
            folder,
            name="tiny",
            threads=1,
            rows_max=2,
            prefill_int8=prefill_int8,
            kernels=kernels,
        )
    assert caught.value.reason in {
        Reason.MODEL_FILE_INVALID,
        Reason.MODEL_FILE_MISSING,
        Reason.MODEL_GRAPH_UNSUPPORTED,
    }
    assert caught.value.message.startswith(("model.onnx: ", "model.onnx.data: ", "outside.data: "))
    assert "\n" not in caught.value.message


@NEEDS_NATIVE
def test_weights_that_are_cut_off_are_called_so(tmp_path: Path) -> None:
    folder = copy_model(TINY_LLAMA_INT4, tmp_path / "model")
    data = folder / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:50_000])
    with pytest.raises(BadModel, match=r"^model\.onnx\.data: .* is cut off: .* ends at byte"):
        load_model(folder, name="tiny", threads=1, rows_max=2)


def test_groups_in_another_order_are_refused_where_they_are_not_understood(tmp_path: Path) -> None:
    """`g_idx`, the fifth input of MatMulNBits: which scale belongs to which position along K."""
    folder = copy_model(TINY_LLAMA_INT4_BLOCK64, tmp_path / "model")
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    extra_input(4, np.zeros(64, np.int32))(model.graph, folder)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BadModel, match="group"):
        load_model(folder, name="tiny", threads=1, rows_max=2, prefill_int8=True)
