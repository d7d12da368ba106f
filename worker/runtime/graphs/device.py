"""What a graph must be to be computed on a device, where only ONNX Runtime's own operators are."""

from __future__ import annotations

from common.errors import BadModel, Reason
from worker.kernels.library import Kernels
from worker.runtime.graphs.exported import ExportedGraph
from worker.runtime.kv_precision import FP16
from worker.runtime.mode import Mode
from worker.runtime.models.family import CacheRule

__all__ = ["check_for_device"]


def check_for_device(
    exported: ExportedGraph, provider: str, *, mode: Mode, kernels: Kernels
) -> None:
    """Raises `BadModel(MODEL_GRAPH_UNSUPPORTED)` with what to change: the graph, or a setting."""
    if why_not := _why_not(exported, mode, kernels):
        raise BadModel(
            f"{exported.file}: worker.provider = {provider} {why_not}",
            reason=Reason.MODEL_GRAPH_UNSUPPORTED,
        )


def _why_not(exported: ExportedGraph, mode: Mode, kernels: Kernels) -> str | None:
    if kernels not in ("auto", "portable"):
        return (
            f"does not go with worker.kernels = {kernels}: those compute on the CPU; set it to auto"
        )
    if mode == "exact":
        return (
            "cannot keep what worker.mode = exact promises: its libraries choose how to compute by the number of rows; "
            "set it to fast"
        )
    if exported.cache is CacheRule.GROWING:
        return "does not serve a past that grows; export with the onnxruntime-genai builder: -e cuda -p fp16"
    if exported.kv is not FP16:
        # Attention in float32 has no kernel there: it would run on the CPU, on addresses that are none of the CPU's.
        return f"has no attention in {exported.kv.name}; export with the onnxruntime-genai builder: -e cuda -p fp16"
    return None
