"""The onnxruntime-genai builder with two architectures mended. A script for the Python that has the builder: imports
nothing of ours, and nothing of ours imports it.

    python exporter.py -i SOURCE -o OUT -p PRECISION -e cpu --extra_options …      the builder's own command line

What is wrong in the builder 0.18 with transformers 5:

- *Gemma 3* rotates by one table in layers with a window and by another in all others. transformers 4 had their bases as
  `rope_local_base_freq` and `rope_theta`; transformers 5 has `rope_parameters` for each kind of layer. The builder
  looks for `rope_parameters["rope_type"]` and fails. It would also scale both tables, where only the second is scaled.
- *SmolLM3* has layers without rotation. The builder takes "not inside attention" for "in an operator of its own", and
  fails because the graph has no input of positions for that.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

# The modules in our folder have names such as `process`: others must not find them.
sys.path[:] = [place for place in sys.path if Path(place).resolve() != Path(__file__).parent]

import onnxruntime_genai.models  # noqa: E402, F401 - where `builders` is found

import builders  # noqa: E402 # isort: skip


class Gemma3Model(builders.Gemma3Model):  # type: ignore[misc]
    """With a table of rotary positions for each kind of layer."""

    def __init__(self, config: Any, *rest: Any) -> None:
        by_layer = getattr(config, "rope_parameters", None)
        if isinstance(by_layer, dict) and "full_attention" in by_layer:
            config.rope_parameters = by_layer["full_attention"]
            config.rope_theta = by_layer["full_attention"]["rope_theta"]
            config.rope_local_base_freq = by_layer["sliding_attention"]["rope_theta"]
        super().__init__(config, *rest)

    def make_rotary_embedding_caches_from_scratch(self) -> Any:
        tables = super().make_rotary_embedding_caches_from_scratch()
        self.rope_attrs["rescale_factors"] = 1  # the next one is for layers with a window
        return tables


class SmolLM3Model(builders.SmolLM3Model):  # type: ignore[misc]
    """With layers that do not rotate."""

    def make_attention_qk_rope(self, layer_id: int, **inputs: Any) -> Any:
        if not self.no_rope_layers[layer_id]:
            return "", ""
        return super().make_attention_qk_rope(layer_id, **inputs)


if __name__ == "__main__":
    builders.Gemma3Model, builders.SmolLM3Model = Gemma3Model, SmolLM3Model
    runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__")
