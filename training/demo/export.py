"""Export a trained run to ONNX, in the folder layout of the onnxruntime-genai builder.

`python -m training.demo.export WEIGHTS_DIR TOKENIZER_DIR OUT_DIR --precision int4`

WEIGHTS_DIR holds model.safetensors and config.json: a run's `weights/`, or the published
`models/demo/weights/`. Both give the same model, since weights are rounded to fp16 first.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
import torch
from safetensors.torch import load_file, save_file

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
MODEL_FILES = ("model.onnx", "model.onnx.data", "genai_config.json")
PADDING = 32
"""One block of the quantiser."""
QUANTISED = ("block_size=32", "accuracy_level=4")
"""Block 32 makes a row's result independent of its neighbours; level 4 means int8 activations."""


def export(weights: Path, tokenizer: Path, out: Path, precision: str) -> None:
    """Build one precision into `out`; files of an earlier export there are replaced."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        source, built = Path(scratch) / "source", Path(scratch) / "built"
        _prepare(weights, tokenizer, source)
        _build(source, built, precision)
        _rewire_head(built / "model.onnx")
        for name in MODEL_FILES:
            shutil.copyfile(built / name, out / name)
    for name in TOKENIZER_FILES:
        shutil.copyfile(tokenizer / name, out / name)


def save_half(weights: Path, out: Path) -> None:
    """Write the weights as fp16, with their configuration, for a later export."""
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.half() for name, tensor in load_file(_tensors(weights)).items()}
    save_file(tensors, _tensors(out), metadata={"format": "pt"})
    config = json.loads((weights / "config.json").read_text(encoding="utf-8"))
    _write(out / "config.json", config | {"dtype": "float16"})


def _tensors(folder: Path) -> Path:
    return folder / "model.safetensors"


def _prepare(weights: Path, tokenizer: Path, source: Path) -> None:
    """Lay out what the builder reads: fp32 tensors that fp16 can hold."""
    source.mkdir()
    tensors = load_file(_tensors(weights))
    rounded = {name: tensor.half().to(torch.float32) for name, tensor in tensors.items()}
    config = json.loads((weights / "config.json").read_text(encoding="utf-8"))
    if config["intermediate_size"] == config["vocab_size"]:
        config["intermediate_size"] += PADDING
        rounded = {name: _pad(name, tensor) for name, tensor in rounded.items()}
    save_file(rounded, _tensors(source), metadata={"format": "pt"})
    _write(source / "config.json", config | {"dtype": "float32"})
    ids = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    _write(source / "generation_config.json", ids | {"do_sample": False})
    for name in TOKENIZER_FILES:
        shutil.copyfile(tokenizer / name, source / name)


def _pad(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Widen the MLP with zeros, which changes no result.

    The builder takes the first linear layer with as many outputs as there are tokens for the head, so
    an MLP of that very width would end the network after its first half layer.
    """
    if name.endswith(("gate_proj.weight", "up_proj.weight")):
        return torch.nn.functional.pad(tensor, (0, 0, 0, PADDING))
    if name.endswith("down_proj.weight"):
        return torch.nn.functional.pad(tensor, (0, PADDING))
    return tensor


def _build(source: Path, built: Path, precision: str) -> None:
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
    command += ["-m", str(source), "-o", str(built), "-p", precision, "-e", "cpu"]
    if precision != "fp32":
        command += ["--extra_options", *QUANTISED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the builder failed:\n{done.stdout}\n{done.stderr}")


def _rewire_head(file: Path) -> None:
    """Feed the output product from the final norm.

    The builder takes any product with as many outputs as there are tokens for the last one, so
    with as many tokens as feed-forward units it wires the head to the first layer.
    """
    model = onnx.load(file, load_external_data=False)
    nodes = model.graph.node
    last = "final_norm_layernorm/SkipLayerNorm"
    (norm,) = [node for node in nodes if node.name.endswith(last)]
    (head,) = [node for node in nodes if node.name.startswith("/lm_head/MatMul")]
    moved = onnx.NodeProto()
    moved.CopyFrom(head)
    moved.input[0] = norm.output[0]
    nodes.remove(head)
    nodes.append(moved)
    onnx.save(model, file)


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Export, and with --half also write the weights as fp16."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--precision", choices=("int4", "int8", "fp32"), default="int4")
    parser.add_argument("--half", type=Path, help="folder for the fp16 weights")
    arguments = parser.parse_args()
    export(arguments.weights, arguments.tokenizer, arguments.out, arguments.precision)
    if arguments.half:
        save_half(arguments.weights, arguments.half)


if __name__ == "__main__":
    main()
