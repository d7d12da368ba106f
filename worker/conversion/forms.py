"""The forms in which a worker may compute one model, and the logits of whole texts in each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from worker.runtime.artifacts import read_artifact
from worker.runtime.graphs.edit import LENGTHS, LOGITS_AT, LONGEST
from worker.runtime.models.registry import family_of
from worker.runtime.providers.registry import provider_named
from worker.runtime.session import open_graph
from worker.runtime.threads import available_cores
from worker.runtime.tokenizer import Tokenizer, open_tokenizer

__all__ = ["INT8", "STORED", "Forms"]

STORED: Final = "stored"
"""Weights as the file has them."""
INT8: Final = "int8"
"""Block-quantised weights as 8-bit integers with a scale per output (`worker.runtime.graphs.row_int8`)."""


@final
class Forms:
    """One model folder, open in each form that a worker might take, by its mode and `prefill_int8`."""

    def __init__(self, folder: Path) -> None:
        """Raises `BadModel` as a worker does at its start."""
        artifact = read_artifact(folder)
        self.config = artifact.config.model
        self.tokenizer: Tokenizer = open_tokenizer(artifact)
        self._graph = open_graph(
            artifact,
            family_of(self.config.type),
            provider_named("cpu"),
            available_cores(),
            mode="fast",  # the mode that keeps both forms
            prefill_int8=True,
        )
        self._sessions: dict[str, ort.InferenceSession] = {STORED: self._graph.few}
        if self._graph.many is not self._graph.few:
            self._sessions[INT8] = self._graph.many

    @property
    def names(self) -> tuple[str, ...]:
        """STORED, and INT8 where the weights are quantised in blocks."""
        return tuple(self._sessions)

    def logits(
        self, form: str, ids: Sequence[int], *, last_only: bool = False
    ) -> npt.NDArray[np.float32]:
        """Logits [len(ids), vocab] after each token of one text, or [1, vocab] after the last."""
        graph, size = self._graph, len(ids)
        drawn = [size - 1] if last_only else range(size)
        past = np.zeros((1, graph.num_kv_heads, 0, graph.head_size), np.float32)
        feeds: dict[str, npt.NDArray[np.generic]] = {
            template % layer: past
            for template in (graph.names.past_key, graph.names.past_value)
            for layer in range(graph.num_layers)
        }
        feeds |= {
            graph.names.input_ids: np.array([ids], np.int64),
            LENGTHS: np.array([size - 1], np.int32),
            LONGEST: np.array(size, np.int32),
            LOGITS_AT: np.array([[0, at] for at in drawn], np.int64),
        }
        found: npt.NDArray[np.float32] = self._sessions[form].run([graph.names.logits], feeds)[0]
        return found
