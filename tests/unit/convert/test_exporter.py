"""What the builder is given instead of its own classes. The builder here is one that says what it was asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

EXPORTER = Path(__file__).resolve().parents[3] / "convert" / "exporter.py"

MODELS = """
import os.path, sys
sys.path.append(os.path.dirname(__file__))
"""
BUILDERS = """
class Gemma3Model:
    def __init__(self, config, ep):
        self.config, self.ep = config, ep
        self.rope_attrs = {"rescale_factors": config.rope_parameters["factor"]}

    def make_rotary_embedding_caches_from_scratch(self):
        return self.rope_attrs["rescale_factors"]

class SmolLM3Model:
    no_rope_layers = [1, 0]

    def make_attention_qk_rope(self, layer_id, **inputs):
        return "cos", "sin"
"""
BUILDER = """
import json, sys, types
from builders import Gemma3Model, SmolLM3Model
try:
    import manifest
    sys.exit("found a module of Lepton's")
except ImportError:
    pass
if __name__ == "__main__":
    gemma3 = Gemma3Model(types.SimpleNamespace(**json.loads(sys.argv[2])), "cpu")
    print(json.dumps({
        "argv": sys.argv[1:],
        "config": vars(gemma3.config),
        "scales": [gemma3.make_rotary_embedding_caches_from_scratch() for table in ("global", "local")],
        "tables": [SmolLM3Model().make_attention_qk_rope(layer, position_ids="p") for layer in (0, 1)],
    }))
"""


def exported(tmp_path: Path, config: dict[str, Any]) -> dict[str, Any]:
    models = tmp_path / "onnxruntime_genai" / "models"
    models.mkdir(parents=True)
    (models.parent / "__init__.py").touch()
    (models / "__init__.py").write_text(MODELS)
    (models / "builders.py").write_text(BUILDERS)
    (models / "builder.py").write_text(BUILDER)
    done = subprocess.run(
        [sys.executable, str(EXPORTER), "-i", json.dumps(config)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["argv"] == ["-i", json.dumps(config)]
    return found


def test_rotations_by_kind_of_layer_become_what_the_builder_reads(tmp_path: Path) -> None:
    scaled = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}
    plain = {"rope_type": "default", "rope_theta": 1e4}
    parameters = {"full_attention": scaled, "sliding_attention": plain}
    found = exported(tmp_path, {"rope_parameters": parameters})
    assert found["config"] == {
        "rope_parameters": scaled,
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
    }
    assert found["scales"] == [8.0, 1]


def test_what_the_builder_reads_already_is_left_alone(tmp_path: Path) -> None:
    parameters = {"rope_type": "linear", "factor": 2.0}
    assert exported(tmp_path, {"rope_parameters": parameters})["config"] == {
        "rope_parameters": parameters
    }


def test_layers_without_rotation_get_none(tmp_path: Path) -> None:
    found = exported(tmp_path, {"rope_parameters": {"factor": 1}})
    assert found["tables"] == [["cos", "sin"], ["", ""]]
