"""What a step must read, and what share of the bandwidth that is."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from loadtest.engines.__main__ import main
from loadtest.engines.result import Figure, Measure, Result
from loadtest.engines.roofline import roofline_tables, step_bytes
from loadtest.engines.weights import looked_up_bytes, weights_bytes
from tests.support.half import in_half
from tests.support.tiny_models import TINY_LLAMA, TINY_QWEN2

DECODE = Measure("decode", 4)


def result(bandwidth: float | None, **facts: int) -> Result:
    steps = [{"step_ms": step_ms} for step_ms in (2.0, 4.0, 3.0)]
    return Result(
        title="Test",
        ours=("ours",),
        others=(),
        facts={"ours": facts},
        figures=tuple(
            Figure(label="ours", measure=DECODE, round=number, tokens_per_s=1.0, details=step)
            for number, step in enumerate(steps, 1)
        ),
        plan={"prompt_tokens": 90, "tokens": 20, "bandwidth": bandwidth},
        machine={},
    )


def test_weights_once_and_the_positions_of_every_stream() -> None:
    found = result(3.0, weights_bytes=2_000_000, looked_up_bytes=500_000, kv_bytes_per_token=10_000)
    assert step_bytes(found, "ours", 4) == 1_500_000 + 4 * 100 * 10_000
    ((row,),) = [table.rows for table in roofline_tables(found)]
    assert row == ["4", "6", "3.00", "1.8", "61 %"]  # 5.5 MB in 3 ms, of 3 GB/s


def test_without_a_bandwidth_or_without_weights_there_is_nothing_to_show() -> None:
    assert roofline_tables(result(None, weights_bytes=1, kv_bytes_per_token=1)) == []
    ((row,),) = [table.rows for table in roofline_tables(result(3.0))]
    assert row == ["4", "–", "–", "–", "–"]


@pytest.mark.parametrize("folder", [TINY_LLAMA, TINY_QWEN2], ids=["untied", "tied"])
def test_an_embedding_is_looked_up_unless_it_is_the_output_matrix(folder: Path) -> None:
    graph = in_half(folder) / "model.onnx"
    names = {
        tensor.name: tensor.dims
        for tensor in onnx.load(graph, load_external_data=False).graph.initializer
    }
    dims = names.get("model.embed_tokens.weight")
    assert looked_up_bytes(graph) == (2 * dims[0] * dims[1] if dims else 0)
    assert looked_up_bytes(graph) < weights_bytes(graph, "")


def test_one_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    model = ["--model", str(in_half(TINY_LLAMA)), "--provider", "cpu", "--bandwidth", "20"]
    size = ["--streams", "1,2", "--prompts", "8", "--prompt-tokens", "8", "--tokens", "12"]
    rest = ["--rounds", "1", "--threads", "1", "--context-max", "64"]
    assert main([*model, *size, *rest]) == 0
    assert "Lepton: share of 20 GB/s" in capsys.readouterr().out
