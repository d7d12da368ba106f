"""A folder that workers serve: what `lepton quantize` needs to know of it, and the last check of a new one."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from onnx import TensorProto

from common.errors import BadModel, Reason
from worker.runtime.artifacts import read_artifact
from worker.runtime.fingerprint import precision_of
from worker.runtime.graphs.exported import read_exported
from worker.runtime.model import load_model
from worker.runtime.models.family import CacheRule
from worker.runtime.models.registry import family_of

__all__ = ["Served", "check_served", "read_served"]

CONTEXT_MAX: Final = 512
"""Of the check: enough for the golden prompt, and little memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a served folder says of itself."""

    name: str
    """Name of the folder."""
    family: str
    precision: str
    """"fp32", or how the weights are quantised."""
    num_parameters: int
    """Numbers in its matrices."""
    weight_bytes: int

    def record(self) -> dict[str, Any]:
        return asdict(self)


def read_served(folder: Path) -> Served:
    """Reads everything but the weights' values.

    Raises `BadModel`, as a worker would; MODEL_GRAPH_UNSUPPORTED also when the weights are quantised already.
    """
    artifact = read_artifact(folder)
    family = family_of(artifact.config.model.type)
    if family.cache is CacheRule.GROWING:
        raise BadModel(
            f"{artifact.graph.name}: an Optimum export is served as it is; to quantise the model, convert the Hugging "
            "Face folder that it was made of (lepton convert)",
            reason=Reason.MODEL_GRAPH_UNSUPPORTED,
        )
    exported = read_exported(artifact, family)
    precision = precision_of(artifact.graph)
    if precision != "fp32":
        raise BadModel(
            f"{artifact.graph.name}: the weights are {precision} already; quantise the fp32 folder that it was made of "
            "(lepton convert --precision fp32)",
            reason=Reason.MODEL_GRAPH_UNSUPPORTED,
        )
    matrices = [
        math.prod(tensor.dims)
        for tensor in exported.model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and not tensor.name.endswith("_cache")
    ]
    return Served(
        name=folder.resolve().name,
        family=family.name,
        precision=precision,
        num_parameters=sum(matrices),
        weight_bytes=sum(path.stat().st_size for path in folder.glob(f"{artifact.graph.name}*")),
    )


def check_served(folder: Path) -> dict[str, Any]:
    """Loads it as a worker with default settings does: hashes, graph, parity, golden answer. Raises `BadModel`."""
    loaded = load_model(
        folder,
        name=folder.name,
        rows_max=2,
        context_max=CONTEXT_MAX,
        prefill_int8=True,
    )
    info = loaded.info
    return {"revision": info.revision, "fingerprint": info.fingerprint}
