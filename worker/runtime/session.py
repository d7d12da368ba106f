"""Artifact + provider + threads + mode → sessions whose graph is what we think it is.

ONNX Runtime falls back to the CPU without an error, so what a session got is compared with what was asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from common.errors import BadModel, Reason
from worker.kernels.library import InstructionSet, Kernels, find_library, isas_here
from worker.runtime.artifacts import Artifact
from worker.runtime.devices.memory import KvMemory, Plane
from worker.runtime.graphs.device import check_for_device
from worker.runtime.graphs.edit import edited
from worker.runtime.graphs.exported import ExportedGraph, read_exported
from worker.runtime.graphs.growing import growing_graph
from worker.runtime.graphs.native import native_graph, why_not_native
from worker.runtime.graphs.row_int8 import with_row_int8
from worker.runtime.graphs.weights import RewrittenGraph, largest_block
from worker.runtime.kv_precision import FP32, KvPrecision, KvPrecisionName, kv_precision_named
from worker.runtime.mode import EXACT_BLOCK_MAX, Mode
from worker.runtime.models.family import CacheRule, GraphNames, ModelFamily
from worker.runtime.providers.placement import check_offered, check_placement
from worker.runtime.providers.spec import ProviderSpec

__all__ = ["Graph", "open_graph"]

SPIN_US: Final = 1000
"""Microseconds that a thread looks for work before it sleeps: more than a gap in a run, nothing in an idle second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Sessions on the edited graph, and the numbers that buffers are made from."""

    cache: CacheRule
    """With GROWING the graph is that of `worker.runtime.graphs.growing`."""
    isa: InstructionSet | None
    """Of our own operators, which the graph of `worker.runtime.graphs.native` needs; without it the graph is that of
    `worker.runtime.graphs.edit`, on ONNX Runtime's."""
    few: ort.InferenceSession
    """For runs of few positions."""
    many: ort.InferenceSession
    """For runs of many positions; the same session where one form of the weights serves both."""
    memory: KvMemory[Plane]
    """Where keys and values live."""
    kv: KvPrecision
    """Of the keys and values that are bound."""
    is_int8: bool
    """Whether `many` computes with 8-bit integers made of weights that are stored in another form."""
    names: GraphNames
    num_layers: int
    num_kv_heads: int
    head_size: int
    vocab_size: int

    @property
    def is_native(self) -> bool:
        """Whether our own operators compute."""
        return self.isa is not None


def open_graph(
    artifact: Artifact,
    family: ModelFamily,
    provider: ProviderSpec,
    threads: int,
    *,
    mode: Mode,
    prefill_int8: bool,
    kernels: Kernels = "auto",
    kv_precision: KvPrecisionName = "auto",
) -> Graph:
    """Checks the exported graph, edits it and loads it in the forms that `mode` and `kernels` ask for.

    Raises `BadModel`: PROVIDER_UNAVAILABLE, MODEL_FILE_MISSING or MODEL_FILE_INVALID (the file cannot be loaded),
    MODEL_GRAPH_UNSUPPORTED (it is not the graph that the configuration describes, or cannot keep what `mode` promises).
    """
    check_offered(provider)
    memory = provider.open_memory()
    exported = read_exported(artifact, family)
    if provider.has_device:
        check_for_device(exported, provider.name, mode=mode, kernels=kernels)
    loader = _Loader(artifact, provider, threads)
    isa = None if provider.has_device else _isa(exported, kernels)
    kv = _kv(exported, kv_precision, isa)
    if exported.cache is CacheRule.GROWING:
        session = loader.load(growing_graph(exported))
        forms = _Forms(session, session, is_int8=False)
    elif isa is not None:
        forms = _open_native(loader, exported, kv, isa)
    else:
        # Integers take the place of float32 products on the CPU.
        prefill_int8 = prefill_int8 and exported.kv is FP32 and not provider.has_device
        forms = _open_forms(loader, exported, mode=mode, prefill_int8=prefill_int8)
    return Graph(
        cache=exported.cache,
        isa=isa,
        memory=memory,
        kv=kv,
        few=forms.few,
        many=forms.many,
        is_int8=forms.is_int8,
        names=exported.names,
        num_layers=exported.num_layers,
        num_kv_heads=exported.num_kv_heads,
        head_size=exported.head_size,
        vocab_size=exported.vocab_size,
    )


def _kv(exported: ExportedGraph, name: KvPrecisionName, isa: InstructionSet | None) -> KvPrecision:
    """How keys and values are kept; raises `BadModel` when it is not how that graph keeps them."""
    if isa is not None:
        return kv_precision_named(name, exported.model)
    if name in ("auto", exported.kv.name):
        return exported.kv
    raise BadModel(
        f"{exported.file}: worker.kv_precision = {name} needs our own operators; set it to auto",
        reason=Reason.MODEL_GRAPH_UNSUPPORTED,
    )


def _isa(exported: ExportedGraph, kernels: Kernels) -> InstructionSet | None:
    """In which our operators compute; None: they do not.

    Raises `BadModel` when they were asked for and cannot do it.
    """
    if kernels == "portable":
        return None
    why_not = why_not_native(exported)
    asked = [isa for isa in isas_here() if kernels in ("auto", "native", isa)]
    if why_not is None and asked:
        return asked[0]
    if kernels == "auto":
        return None
    raise BadModel(
        f"{exported.file}: worker.kernels = {kernels} does not serve {why_not or _this_machine()}; set it to auto",
        reason=Reason.MODEL_GRAPH_UNSUPPORTED,
    )


def _this_machine() -> str:
    """With what is here instead of the instruction set that was asked for."""
    if isas_here():
        return f"this machine, where our operators run in {', '.join(isas_here())}"
    return "this installation: our operators were not built, or the processor has no AVX2"


@dataclass(frozen=True, slots=True)
class _Forms:
    few: ort.InferenceSession
    many: ort.InferenceSession
    is_int8: bool


def _open_native(
    loader: _Loader, exported: ExportedGraph, kv: KvPrecision, isa: InstructionSet
) -> _Forms:
    """One form of the weights for every run."""
    try:
        native = native_graph(exported, loader.file, kv, isa)
    except (OSError, ValueError) as error:
        raise _load_error(loader.file, error) from error
    session = loader.load_native(native)
    return _Forms(session, session, is_int8=False)


def _open_forms(
    loader: _Loader, exported: ExportedGraph, *, mode: Mode, prefill_int8: bool
) -> _Forms:
    """The weights as they are stored, as 8-bit integers, or one of each.

    Blocks that make a row depend on its company give way to integers in every run where company must not count.
    """
    model = edited(exported)
    block = largest_block(model)
    one_form = mode == "exact" and block > EXACT_BLOCK_MAX
    if one_form and not prefill_int8:
        remedy = "prefill_int8" if exported.kv is FP32 else "a graph in fp32"
        raise BadModel(
            f"{exported.file}: mode exact needs {remedy} for weights in blocks of {block}; as they are stored, "
            "a row depends on its company",
            reason=Reason.MODEL_GRAPH_UNSUPPORTED,
        )
    if not block or not prefill_int8:
        session = loader.load(model)
        return _Forms(session, session, is_int8=False)
    # After a prompt one position is drawn from: the output matrix stays as it is unless many rows are decoded so.
    keep = [exported.names.logits] if mode == "exact" and not one_form else []
    try:
        int8 = with_row_int8(model, loader.file, keep=keep)
    except (OSError, ValueError) as error:
        raise _load_error(loader.file, error) from error
    many = loader.load_int8(int8)
    return _Forms(many if one_form else loader.load(model), many, is_int8=True)


@final
class _Loader:
    """Sessions of one artifact on one provider."""

    def __init__(self, artifact: Artifact, provider: ProviderSpec, threads: int) -> None:
        self.file: Path = artifact.graph
        self._provider = provider
        self._threads = threads

    def load(self, model: onnx.ModelProto) -> ort.InferenceSession:
        """Weights from the files beside the graph."""
        return self._load(model, self._options())

    def load_int8(self, int8: RewrittenGraph) -> ort.InferenceSession:
        """Weights from memory, and everything else with them."""
        options = self._options()
        # The other form's turn comes next: threads of this one that went on looking for work would be in its way.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return self._load_rewritten(int8, options)

    def load_native(self, native: RewrittenGraph) -> ort.InferenceSession:
        """The same with our operators."""
        options = self._options()
        options.register_custom_ops_library(str(find_library()))
        return self._load_rewritten(native, options)

    def _load_rewritten(
        self, graph: RewrittenGraph, options: ort.SessionOptions
    ) -> ort.InferenceSession:
        try:
            files = self._in_memory(graph)
        except (OSError, ValueError) as error:
            raise _load_error(self.file, error) from error
        options.add_external_initializers_from_files_in_memory(
            list(files), list(files.values()), [array.nbytes for array in files.values()]
        )
        session = self._load(graph.model, options)
        del files  # not before: until the session is made, the options point into it
        return session

    def _options(self) -> ort.SessionOptions:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        # Prompts come in every length: a memory pattern per shape would be kept for each of them.
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        entries = {
            "session.intra_op.allow_spinning": "1" if self._provider.spins else "0",
            "session.intra_op.spin_duration_us": str(SPIN_US),
            # The graph comes as bytes; its large tensors are read from the files that it names, here.
            "session.model_external_initializers_file_folder_path": str(self.file.parent),
            **self._provider.config_entries,
        }
        for key, value in entries.items():
            options.add_session_config_entry(key, value)
        return options

    def _in_memory(self, graph: RewrittenGraph) -> dict[str, npt.NDArray[np.uint8]]:
        """Every file that the graph names: with one of them in memory ONNX Runtime wants all of them there."""
        files: dict[str, npt.NDArray[np.uint8]] = {
            entry.value: np.memmap(self.file.parent / entry.value, np.uint8, "r")
            for tensor in graph.model.graph.initializer
            for entry in tensor.external_data
            if entry.key == "location" and entry.value not in graph.files
        }
        files |= {name: array.reshape(-1).view(np.uint8) for name, array in graph.files.items()}
        return files

    def _load(self, model: onnx.ModelProto, options: ort.SessionOptions) -> ort.InferenceSession:
        provider = self._provider
        providers: list[Any] = [
            (name, dict(provider.options.get(name, {}))) for name in provider.ort_names
        ]
        try:
            session = ort.InferenceSession(
                model.SerializeToString(), options, providers=providers, enable_fallback=0
            )
        except Exception as error:  # onnxruntime's exceptions share no base class
            # Of a provider that does not start comes Python's own, and none about a graph.
            if provider.has_device and isinstance(error, RuntimeError):
                raise BadModel(
                    f"provider {provider.name!r} could not start: {_one_line(error)[:300]}",
                    reason=Reason.PROVIDER_UNAVAILABLE,
                ) from error
            raise _load_error(self.file, error) from error
        session.disable_fallback()
        # Kept for a fallback, and with the weights inside the graph as large as the model.
        session._model_bytes = None  # noqa: SLF001
        check_placement(provider, session, self.file.name)
        return session


def _load_error(graph: Path, error: Exception) -> BadModel:
    """Names the file that is at fault: the graph, or the weights that it points to."""
    text = _one_line(error)
    # ONNX Runtime also says "external_data" and means no file.
    data = re.search(r"(?!external_data\b)\b[\w.\-]+[._]data(_\d+)?\b", text)
    name = data.group() if data else graph.name
    if data and not (graph.parent / name).exists():
        return BadModel(
            f"{name}: not found in {graph.parent}, but {graph.name} keeps its weights there",
            reason=Reason.MODEL_FILE_MISSING,
        )
    return BadModel(
        f"{name}: onnxruntime cannot load it: {text[:300]}", reason=Reason.MODEL_FILE_INVALID
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
