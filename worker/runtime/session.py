"""Artifact + provider + threads → a session whose graph is what we think it is.

ONNX Runtime falls back to the CPU without an error, so what the session got is compared with what was asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from common.errors import BadModel, Reason
from worker.runtime.artifacts import Artifact
from worker.runtime.graphs.edit import edited
from worker.runtime.graphs.exported import read_exported
from worker.runtime.graphs.row_int8 import RowInt8, with_row_int8
from worker.runtime.models.family import GraphNames, ModelFamily
from worker.runtime.providers.spec import ProviderSpec

__all__ = ["Graph", "open_graph"]

SPIN_US: Final = 1000
"""Microseconds that a thread looks for work before it sleeps: more than a gap in a run, nothing in an idle second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A session on the edited graph (`worker.runtime.graphs.edit`), and the numbers that buffers are made from."""

    decode: ort.InferenceSession
    """For runs of one position per row."""
    prefill: ort.InferenceSession
    """For runs of many positions; the same session where one form of the weights serves both."""
    names: GraphNames
    num_layers: int
    num_kv_heads: int
    head_size: int
    vocab_size: int


def open_graph(
    artifact: Artifact,
    family: ModelFamily,
    provider: ProviderSpec,
    threads: int,
    *,
    prefill_int8: bool,
) -> Graph:
    """Checks the exported graph, edits it and loads it, with `prefill_int8` once for each phase.

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
    model = edited(exported)
    decode = _load(artifact, model, _options(artifact, provider, threads), provider)
    prefill = decode
    if prefill_int8:
        # One position alone is drawn from after a prompt, so the output matrix stays in the form for few positions.
        several = with_row_int8(model, artifact.graph, keep=[exported.names.logits])
        if several.files:
            options = _options(artifact, provider, threads)
            # Decoding comes next: threads of this session that went on looking for work would be in its way.
            options.add_session_config_entry("session.force_spinning_stop", "1")
            files = _in_memory(several, artifact.graph.parent)
            options.add_external_initializers_from_files_in_memory(
                list(files), list(files.values()), [array.nbytes for array in files.values()]
            )
            prefill = _load(artifact, several.model, options, provider)
            del files  # not before: until the session is made, the options point into it
    return Graph(
        decode=decode,
        prefill=prefill,
        names=exported.names,
        num_layers=exported.num_layers,
        num_kv_heads=exported.num_kv_heads,
        head_size=exported.head_size,
        vocab_size=exported.vocab_size,
    )


def _options(artifact: Artifact, provider: ProviderSpec, threads: int) -> ort.SessionOptions:
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
    return options


def _load(
    artifact: Artifact, model: onnx.ModelProto, options: ort.SessionOptions, provider: ProviderSpec
) -> ort.InferenceSession:
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
    if session.get_providers()[0] != provider.ort_names[0]:
        raise _no_provider(
            f"provider {provider.name!r} could not start; onnxruntime offered {', '.join(session.get_providers())}"
        )
    return session


def _in_memory(several: RowInt8, folder: Path) -> dict[str, npt.NDArray[np.uint8]]:
    """Every file that the graph names: with one of them in memory ONNX Runtime wants all of them there."""
    files: dict[str, npt.NDArray[np.uint8]] = {
        entry.value: np.memmap(folder / entry.value, np.uint8, "r")
        for tensor in several.model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location" and entry.value not in several.files
    }
    files |= {name: array.reshape(-1).view(np.uint8) for name, array in several.files.items()}
    return files


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
