"""Is what was asked for what computes? ONNX Runtime goes on with less, and says so on stderr at best."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import onnxruntime as ort

from common.errors import BadModel, Reason
from worker.runtime.providers.spec import ProviderSpec

__all__ = ["RECORD_PLACEMENT", "check_offered", "check_placement"]

RECORD_PLACEMENT: Final = {"session.record_ep_graph_assignment_info": "1"}
"""Session options by which `check_placement` learns which node computes where."""

_HOST: Final = "CPUExecutionProvider"
_HEAVY: Final = frozenset({"GroupQueryAttention", "MatMul", "MatMulNBits", "FusedMatMul", "Gemm"})
"""What a device is for. Small nodes that compute shapes may stay on the CPU."""


def check_offered(spec: ProviderSpec) -> None:
    """Raises `BadModel(PROVIDER_UNAVAILABLE)` when this onnxruntime was built without it."""
    missing = [name for name in spec.ort_names if name not in ort.get_available_providers()]
    if missing:
        raise _unavailable(
            f"provider {spec.name!r} needs {', '.join(missing)}, which this onnxruntime lacks; make an environment "
            "with 'lepton[gpu]' and without 'lepton[cpu]': both own the same files"
        )


def check_placement(spec: ProviderSpec, session: ort.InferenceSession, file: str) -> None:
    """Raises `BadModel`: PROVIDER_UNAVAILABLE when the session does without the provider, MODEL_GRAPH_UNSUPPORTED when
    the graph `file` has work for it that it cannot do.
    """
    given = session.get_providers()
    if given[0] != spec.ort_names[0]:
        raise _unavailable(
            f"provider {spec.name!r} could not start, onnxruntime gave {', '.join(given)} alone; the lines above say "
            "which library or device it did not find"
        )
    if given[0] == _HOST:
        return
    nodes = [
        (part.ep_name, node.op_type)
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    ]
    if misplaced := sorted(_misplaced(nodes)):
        raise BadModel(
            f"{file}: provider {spec.name!r} leaves {', '.join(misplaced)} to the CPU; export the model for it "
            "(onnxruntime-genai builder: -e cuda -p fp16, or -p int4)",
            reason=Reason.MODEL_GRAPH_UNSUPPORTED,
        )


def _misplaced(nodes: Iterable[tuple[str, str]]) -> set[str]:
    """Operators on the CPU that should not be; `nodes` as (provider, operator)."""
    return {operator for provider, operator in nodes if provider == _HOST and operator in _HEAVY}


def _unavailable(message: str) -> BadModel:
    return BadModel(message, reason=Reason.PROVIDER_UNAVAILABLE)
