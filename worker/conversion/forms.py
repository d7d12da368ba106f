"""The forms in which a worker may compute one model, and the logits of whole texts in each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from worker.kernels.library import Kernels
from worker.runtime.artifacts import read_artifact
from worker.runtime.graphs.edit import LENGTHS, LOGITS_AT, LONGEST
from worker.runtime.graphs.native import SLOTS, STARTS
from worker.runtime.kv_slab import whole_tiles
from worker.runtime.models.registry import family_of
from worker.runtime.providers.registry import provider_named
from worker.runtime.session import Graph, open_graph
from worker.runtime.threads import available_cores
from worker.runtime.tokenizer import Tokenizer, open_tokenizer

__all__ = ["INT8", "NATIVE", "STORED", "Forms"]

STORED: Final = "stored"
"""Weights as the file has them, on ONNX Runtime's operators."""
INT8: Final = "int8"
"""Block-quantised weights as 8-bit integers with a scale per output (`worker.runtime.graphs.row_int8`)."""
NATIVE: Final = "native"
"""Weights as the file has them, on our own operators."""


@final
class Forms:
    """One model folder, open in each form that a worker might take: `kernels`, mode and `prefill_int8` decide."""

    def __init__(self, folder: Path) -> None:
        """Raises `BadModel` as a worker does at its start."""
        artifact = read_artifact(folder)
        self.config = artifact.config.model
        self.tokenizer: Tokenizer = open_tokenizer(artifact)

        def opened(kernels: Kernels) -> Graph:
            return open_graph(
                artifact,
                family_of(self.config.type),
                provider_named("cpu"),
                available_cores(),
                mode="fast",  # the mode that keeps both forms
                prefill_int8=True,
                kernels=kernels,
            )

        portable, best = opened("portable"), opened("auto")
        self._forms: dict[str, tuple[Graph, ort.InferenceSession]] = {
            STORED: (portable, portable.few)
        }
        if portable.is_int8:
            self._forms[INT8] = portable, portable.many
        if best.is_native:
            self._forms[NATIVE] = best, best.many

    @property
    def names(self) -> tuple[str, ...]:
        """STORED, INT8 where the weights are quantised in blocks, and NATIVE where our operators can compute."""
        return tuple(self._forms)

    def logits(
        self, form: str, ids: Sequence[int], *, last_only: bool = False
    ) -> npt.NDArray[np.float32]:
        """Logits [len(ids), vocab] after each token of one text, or [1, vocab] after the last."""
        graph, session = self._forms[form]
        size = len(ids)
        drawn = [size - 1] if last_only else range(size)
        capacity = (
            whole_tiles(size) if graph.is_native else 0
        )  # ours writes there, ONNX Runtime's makes its own
        feeds: dict[str, npt.NDArray[np.generic]] = {
            template % layer: np.zeros(
                (1, graph.num_kv_heads, capacity, graph.head_size), graph.kv.dtype
            )
            for template in (graph.names.past_key, graph.names.past_value)
            for layer in range(graph.num_layers)
        }
        feeds |= {
            graph.names.input_ids: np.array([ids], np.int64),
            LOGITS_AT: np.array([[0, at] for at in drawn], np.int64),
        }
        if graph.is_native:
            feeds |= {
                SLOTS: np.zeros(1, np.int32),
                STARTS: np.array([0, size], np.int32),
                LENGTHS: np.array([size], np.int32),
            }
        else:
            feeds |= {
                LENGTHS: np.array([size - 1], np.int32),
                LONGEST: np.array(size, np.int32),
            }
        found: npt.NDArray[np.float32] = session.run([graph.names.logits], feeds)[0]
        return found
