"""Artifact + provider + threads → a session whose graph is what we think it is.

ONNX Runtime falls back to the CPU without an error, so what the session got is compared with what was asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import onnx
import onnxruntime as ort

from common.errors import BadModel, Reason
from worker.runtime.artifacts import Artifact
from worker.runtime.graphs.edit import edited
from worker.runtime.graphs.exported import read_exported
from worker.runtime.models.family import GraphNames, ModelFamily
from worker.runtime.providers.spec import ProviderSpec

__all__ = ["Graph", "open_graph"]

SPIN_US: Final = 1000
"""Microseconds that a thread looks for work before it sleeps: more than a gap in a run, nothing in an idle second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A session on the edited graph (`worker.runtime.graphs.edit`), and the numbers that buffers are made from."""

    session: ort.InferenceSession
    names: GraphNames
    num_layers: int
    num_kv_heads: int
    head_size: int
    vocab_size: int


def open_graph(
    artifact: Artifact, family: ModelFamily, provider: ProviderSpec, threads: int
) -> Graph:
    """Checks the exported graph, edits it and loads it.

    Raises `BadModel`: PROVIDER_UNAVAILABLE, MODEL_FILE_MISSING or MODEL_FILE_INVALID (the file cannot be loaded),
    MODEL_GRAPH_UNSUPPORTED (it is not the graph that the configuration describes).
    """
    missing = [name for name in provider.ort_names if name not in ort.get_available_providers()]
    if missing:
        raise _no_provider(
            f"provider {provider.name!r} needs {', '.join(missing)}, which this onnxruntime lacks"
        )
    if provider.device_memory:
        raise _no_provider(
            f"provider {provider.name!r} is not served yet: keys and values live in host memory"
        )
    exported = read_exported(artifact, family)
    session = _load(artifact, edited(exported), provider, threads)
    if session.get_providers()[0] != provider.ort_names[0]:
        raise _no_provider(
            f"provider {provider.name!r} could not start; onnxruntime offered {', '.join(session.get_providers())}"
        )
    return Graph(
        session=session,
        names=exported.names,
        num_layers=exported.num_layers,
        num_kv_heads=exported.num_kv_heads,
        head_size=exported.head_size,
        vocab_size=exported.vocab_size,
    )


def _load(
    artifact: Artifact, model: onnx.ModelProto, provider: ProviderSpec, threads: int
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # Prompts come in every length: a memory pattern per shape would be kept for each of them.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    options.add_session_config_entry(
        "session.intra_op.allow_spinning", "1" if provider.spins else "0"
    )
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    # The graph comes as bytes; its large tensors are read from the files that it names, here.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(artifact.graph.parent)
    )
    for key, value in provider.config_entries.items():
        options.add_session_config_entry(key, value)
    providers: list[Any] = [
        (name, dict(provider.options.get(name, {}))) for name in provider.ort_names
    ]
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=providers, enable_fallback=0
        )
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise _load_error(artifact, error) from error
    session.disable_fallback()
    return session


def _load_error(artifact: Artifact, error: Exception) -> BadModel:
    """Names the file that is at fault: the graph, or the weights that it points to."""
    text = " ".join(str(error).split())
    graph = artifact.graph
    data = re.search(r"[\w.\-]+[._]data(_\d+)?\b", text)
    name = data.group() if data else graph.name
    if data and not (graph.parent / name).exists():
        return BadModel(
            f"{name}: not found in {graph.parent}, but {graph.name} keeps its weights there",
            reason=Reason.MODEL_FILE_MISSING,
        )
    return BadModel(
        f"{name}: onnxruntime cannot load it: {text[:300]}", reason=Reason.MODEL_FILE_INVALID
    )


def _no_provider(message: str) -> BadModel:
    return BadModel(message, reason=Reason.PROVIDER_UNAVAILABLE)
