"""Rounded weights: near to the source, small, and tied tables kept once."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import onnx
import pytest
from onnxruntime import quantization

from common.errors import Conflict, Reason
from tests.support.tiny_models import TINY_LLAMA, TINY_QWEN2
from worker.conversion.accuracy import measure
from worker.conversion.quantizer import Rounding, quantize

FILES = ("genai_config.json", "tokenizer.json", "tokenizer_config.json")


def _rounding(bits: int, block_size: int, algorithm: str = "default") -> Rounding:
    return Rounding(bits=bits, block_size=block_size, algorithm=algorithm, accuracy_level=4)


def _rms_error(source: Path, out: Path, rounding: Rounding) -> float:
    quantize(source, out, rounding)
    for name in FILES:
        shutil.copyfile(source / name, out / name)
    return measure(source, out)["stored"].rms_error


@pytest.mark.parametrize("algorithm", ["default", "rtn", "k_quant"])
def test_more_bits_cost_less(algorithm: str, tmp_path: Path) -> None:
    int4 = _rms_error(TINY_LLAMA, tmp_path / "4", _rounding(4, 32, algorithm))
    int8 = _rms_error(TINY_LLAMA, tmp_path / "8", _rounding(8, 32, algorithm))
    assert 0 < int8 < int4 / 4
    assert int4 < 0.8


def test_smaller_blocks_cost_less(tmp_path: Path) -> None:
    errors = [_rms_error(TINY_LLAMA, tmp_path / str(b), _rounding(8, b)) for b in (16, 128)]
    assert errors[0] < errors[1]


def test_tied_embeddings_are_kept_once(tmp_path: Path) -> None:
    quantize(TINY_QWEN2, tmp_path, _rounding(4, 64))
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    kinds = {node.op_type for node in model.graph.node}
    assert "GatherBlockQuantized" in kinds
    assert {"MatMul", "Transpose"}.isdisjoint(kinds)


def test_blocks_that_the_algorithm_cannot_pack_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="64 inputs in blocks of 64 are 1;") as caught:
        quantize(TINY_LLAMA, tmp_path / "out", _rounding(4, 64, "k_quant"))
    assert caught.value.reason is Reason.SETTING_INVALID
    assert not (tmp_path / "out").exists()
    quantize(TINY_LLAMA, tmp_path / "out", _rounding(8, 64, "k_quant"))  # a byte needs no pair


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx_ir", None)
    monkeypatch.delitem(
        sys.modules, f"{quantization.__name__}.matmul_nbits_quantizer", raising=False
    )
    monkeypatch.delattr(quantization, "matmul_nbits_quantizer", raising=False)
    with pytest.raises(Conflict, match="needs the package onnx-ir") as caught:
        quantize(TINY_LLAMA, tmp_path / "out", _rounding(4, 32))
    assert caught.value.reason is Reason.TOOL_MISSING
