"""Artifact + provider + threads → a session whose graph is what we think it is.

ONNX Runtime falls back to the CPU, and computes nonsense on wrong shapes, without an error. So everything that can be
checked is checked here, once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import onnxruntime as ort

from common.errors import BadModel, Reason
from worker.runtime.artifacts import Artifact
from worker.runtime.models.family import GraphNames, ModelFamily
from worker.runtime.providers.spec import ProviderSpec

__all__ = ["Graph", "open_graph"]

SPIN_US: Final = 1000
"""Microseconds that a thread looks for work before it sleeps: more than a gap in a run, nothing in an idle second."""

KV_TYPES: Final = ("tensor(float)",)
"""Element types of keys and values that the slab holds."""


Expected = tuple[tuple[str, ...], list[int | None]]
"""Element types and shape of a tensor; None for a size that varies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A checked session and the numbers that its buffers are made from."""

    session: ort.InferenceSession
    names: GraphNames
    num_layers: int
    num_kv_heads: int
    head_size: int
    vocab_size: int


def open_graph(
    artifact: Artifact, family: ModelFamily, provider: ProviderSpec, threads: int
) -> Graph:
    """Loads the graph and compares inputs and outputs with genai_config.json.

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
    session = _load(artifact, provider, threads)
    if session.get_providers()[0] != provider.ort_names[0]:
        raise _no_provider(
            f"provider {provider.name!r} could not start; onnxruntime offered {', '.join(session.get_providers())}"
        )
    decoder = artifact.config.model.decoder
    graph = Graph(
        session=session,
        names=_names(artifact, family),
        num_layers=decoder.num_hidden_layers,
        num_kv_heads=decoder.num_key_value_heads,
        head_size=decoder.head_size,
        vocab_size=artifact.config.model.vocab_size,
    )
    _check(graph, artifact.graph.name)
    return graph


def _load(artifact: Artifact, provider: ProviderSpec, threads: int) -> ort.InferenceSession:
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
    for key, value in provider.config_entries.items():
        options.add_session_config_entry(key, value)
    providers: list[Any] = [
        (name, dict(provider.options.get(name, {}))) for name in provider.ort_names
    ]
    try:
        session = ort.InferenceSession(
            str(artifact.graph), options, providers=providers, enable_fallback=0
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


def _names(artifact: Artifact, family: ModelFamily) -> GraphNames:
    inputs, outputs = artifact.config.model.decoder.inputs, artifact.config.model.decoder.outputs
    usual = family.names
    return GraphNames(
        input_ids=inputs.input_ids or usual.input_ids,
        attention_mask=inputs.attention_mask or usual.attention_mask,
        past_key=inputs.past_key_names or usual.past_key,
        past_value=inputs.past_value_names or usual.past_value,
        logits=outputs.logits or usual.logits,
        present_key=outputs.present_key_names or usual.present_key,
        present_value=outputs.present_value_names or usual.present_value,
    )


def _check(graph: Graph, file: str) -> None:
    """Every tensor by name, element type, rank and those sizes that are fixed; one too many is refused, too."""
    names = graph.names
    ids: Expected = (("tensor(int64)",), [None, None])
    cache: Expected = (KV_TYPES, [None, graph.num_kv_heads, None, graph.head_size])
    layers = range(graph.num_layers)
    inputs = {names.input_ids: ids, names.attention_mask: ids}
    inputs |= {t % layer: cache for t in (names.past_key, names.past_value) for layer in layers}
    logits: Expected = (("tensor(float)",), [None, None, graph.vocab_size])
    outputs = {names.logits: logits}
    outputs |= {
        t % layer: cache for t in (names.present_key, names.present_value) for layer in layers
    }
    _compare(file, "input", inputs, graph.session.get_inputs())
    _compare(file, "output", outputs, graph.session.get_outputs())


def _compare(
    file: str,
    kind: str,
    expected: dict[str, Expected],
    actual: list[Any],
) -> None:
    found = {node.name: node for node in actual}
    for name, (types, shape) in expected.items():
        if name not in found:
            raise _unsupported(f"{file}: {kind} {name!r} of genai_config.json is not in the graph")
        node = found[name]
        if node.type not in types:
            raise _unsupported(
                f"{file}: {kind} {name!r} is {node.type}, must be {' or '.join(types)}"
            )
        if len(node.shape) != len(shape):
            raise _unsupported(
                f"{file}: {kind} {name!r} has {len(node.shape)} dimensions, must have {len(shape)}"
            )
        for axis, (size, wanted) in enumerate(zip(node.shape, shape, strict=True)):
            if wanted is not None and isinstance(size, int) and size != wanted:
                raise _unsupported(
                    f"{file}: {kind} {name!r} is {size} along axis {axis}, must be {wanted}"
                )
            if wanted is None and isinstance(size, int):
                raise _unsupported(f"{file}: {kind} {name!r} is fixed to {size} along axis {axis}")
    if extra := sorted(found.keys() - expected.keys()):
        raise _unsupported(
            f"{file}: the graph has {kind} {extra[0]!r}, which we do not know how to use"
        )


def _no_provider(message: str) -> BadModel:
    return BadModel(message, reason=Reason.PROVIDER_UNAVAILABLE)


def _unsupported(message: str) -> BadModel:
    return BadModel(message, reason=Reason.MODEL_GRAPH_UNSUPPORTED)
