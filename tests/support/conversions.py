"""What conversions are tested with: a small Hugging Face folder, and a Python that behaves as if it had the builder."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.support.tiny_models import TINY_LLAMA, TINY_LLAMA_INT4

__all__ = ["CONFIG", "builder_python", "hf_folder", "safetensors"]

CONFIG: Final[Mapping[str, Any]] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
}
SHAPES: Final = {"model.embed_tokens.weight": [300, 64], "model.norm.weight": [64]}

_STUB: Final = '''
"""Answers for an interpreter in whose environment the builder is: its exports are those that are checked in."""
import json, pathlib, shutil, sys, time

FOLDERS, MISSING, FAULT = json.loads({parameters!r})
if sys.argv[1] == "-c":
    print(json.dumps({{name: None if name in MISSING else "9.9" for name in sys.argv[3:]}}))
    sys.exit()
options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
print("the builder speaks", *sys.argv)
if FAULT == "fails":
    sys.exit("ValueError: it cannot be exported")
if FAULT == "hangs":
    pathlib.Path(options["-o"]).mkdir()
    time.sleep(600)
shutil.copytree(FOLDERS[options["-p"]], options["-o"])
if FAULT == "broken graph":
    pathlib.Path(options["-o"], "model.onnx").write_bytes(b"no graph")
'''


def safetensors(path: Path, shapes: Mapping[str, list[int]] = SHAPES) -> Path:
    """A whole file of zeros in fp16."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        size = 2
        for length in shape:
            size *= length
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))
    return path


def hf_folder(folder: Path, changes: Mapping[str, Any] | None = None) -> Path:
    """A Hugging Face folder as far as it is judged; `changes` to config.json."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **(changes or {})}))
    shutil.copyfile(TINY_LLAMA / "tokenizer.json", folder / "tokenizer.json")
    safetensors(folder / "model.safetensors")
    return folder


def builder_python(
    folder: Path, *, missing: tuple[str, ...] = (), fault: str = "", int4: Path = TINY_LLAMA_INT4
) -> Path:
    """`fault`: "fails", "hangs" or "broken graph"; `missing`: packages that it says it lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    parameters = [{"fp32": str(TINY_LLAMA), "int4": str(int4)}, missing, fault]
    stub = folder / "stub.py"
    stub.write_text(_STUB.format(parameters=json.dumps(parameters)))
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{stub}" "$@"\n')
    python.chmod(0o755)
    return python
