"""The list of engines. A new one is a file beside this and a line here."""

from __future__ import annotations

import importlib
from typing import Any, Final

from loadtest.engines.api import Engine

__all__ = ["ENGINES", "open_engine"]

ENGINES: Final = {
    "lepton": ("loadtest.engines.lepton", "LeptonEngine"),
    "lepton-portable": ("loadtest.engines.lepton", "PortableLeptonEngine"),
    "lepton-avx2": ("loadtest.engines.lepton", "Avx2LeptonEngine"),
    "lepton-avx_vnni": ("loadtest.engines.lepton", "AvxVnniLeptonEngine"),
    "onnxruntime-genai": ("loadtest.engines.genai", "GenaiEngine"),
    "openvino-genai": ("loadtest.engines.openvino", "OpenVinoEngine"),
    "llama.cpp": ("loadtest.engines.llamacpp", "LlamaCppEngine"),
}
"""Name → module and class; imported on use, since each needs packages that the others must not see."""


def open_engine(name: str, model: Any, **options: Any) -> Engine:
    """Loads `model` (a path) into the engine of that name."""
    module, made = ENGINES[name]
    engine: Engine = getattr(importlib.import_module(module), made)(model, **options)
    return engine
