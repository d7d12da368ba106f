"""ONNX Runtime's own operators: one run for each prompt chunk, one for all decoding rows.

Every run covers a contiguous range of KV slots, bound by address, keys and values written in place, in whichever memory
they are (`worker.runtime.devices`). Inputs are those of `worker.runtime.graphs.edit`; T_r is the number of tokens of
row r after the run:

    prefill   one slot, S positions [start, end)   lengths [end - 1], longest = end, exactly;
              some chunks take two runs (worker.runtime.tiles)
    decode    slots 0 … d-1, S = 1                 lengths [T_r - 1 …], longest = max T

ONNX Runtime takes a run with S == longest for a first prompt, and the past from lengths and shapes alone. A wrong
number is not an error there but silent nonsense, so every number is asserted (`worker.runtime.forward`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from worker.engine.ports import Batch, CacheLayout
from worker.engine.sequence import Sequence
from worker.runtime.forward import (
    Computed,
    bind_input,
    bind_output,
    end_prompt,
    fill_rows,
    last_id,
    save_blocks,
    slot_of,
)
from worker.runtime.graphs.edit import LENGTHS, LOGITS_AT, LONGEST
from worker.runtime.kv_slab import KvSlab
from worker.runtime.session import Graph
from worker.runtime.tiles import level2_cache_bytes, query_tile, runs

__all__ = ["PhasedForward"]


class PhasedForward:
    """Implements `worker.runtime.forward.Forward` on the graph of `worker.runtime.graphs.edit`."""

    def __init__(self, graph: Graph, layout: CacheLayout) -> None:
        self._graph = graph
        self._memory = graph.memory
        self._slab = KvSlab(
            layout,
            graph.memory,
            num_layers=graph.num_layers,
            num_kv_heads=graph.num_kv_heads,
            head_size=graph.head_size,
            precision=graph.kv,
        )
        self.many_from: int | None = None
        """Rows from which a decode run takes the form of the weights for many positions; None: never."""
        is_tiled = graph.memory.device_type == "cpu"
        self._tile = query_tile(graph.head_size, level2_cache_bytes()) if is_tiled else None
        self._decode_bindings: dict[tuple[int, bool], ort.IOBinding] = {}
        self._prefill_bindings: dict[int, ort.IOBinding] = {}
        # Buffers keep their address for good; what is not written takes no memory.
        slots, capacity = layout.num_slots, layout.capacity
        self._ids = np.zeros((slots, 1), np.int64)
        self._lengths = np.zeros(slots, np.int32)
        self._longest = np.zeros((), np.int32)
        self._logits_at = np.stack([np.arange(slots), np.zeros(slots, np.int64)], axis=1)
        self._logits = np.zeros((slots, graph.vocab_size), np.float32)
        self._prompt_ids = np.zeros((1, capacity), np.int64)
        self._prompt_end_at = np.zeros((1, 2), np.int64)

    def __repr__(self) -> str:
        return f"<PhasedForward {self._slab!r}>"

    @property
    def layout(self) -> CacheLayout:
        return self._slab.layout

    def compute(self, batch: Batch) -> Iterator[Computed]:
        """See `Forward`."""
        fill_rows(self._slab, batch)
        for chunk in batch.prefill:
            *whole, (start, end) = runs(chunk.start, chunk.end, self._tile)
            for run in whole:
                self._run_prefill(chunk.sequence, *run, draws=False)
            logits = self._run_prefill(chunk.sequence, start, end, draws=chunk.is_last)
            save_blocks(self._slab, chunk)
            if chunk.is_last:
                yield end_prompt(self._slab, chunk, logits)
        if batch.decode:
            yield Computed(batch.decode, self._run_decode(batch.decode))

    def rest(self) -> None:
        """See `Forward`."""
        self._slab.clear()

    def _run_prefill(
        self, sequence: Sequence, start: int, end: int, *, draws: bool
    ) -> npt.NDArray[np.float32]:
        """Positions [start, end); logits [1, vocab] after the last of them if it `draws`, else [0, vocab]."""
        slot, size, drawn = slot_of(sequence), end - start, int(draws)
        self._prompt_ids[0, :size] = sequence.prefill_ids[start:end]
        self._prompt_end_at[0, 1] = size - 1
        # Equal to S for the first chunk alone, as the rules for first prompts demand.
        self._lengths[0], self._longest[()] = end - 1, end
        binding = self._prefill_bindings.get(slot)
        if binding is None:
            binding = self._prefill_bindings[slot] = self._bind_cache(self._graph.many, slot, 1)
        self._bind_tokens(binding, self._prompt_ids, [1, size])
        self._bind_draw(binding, self._prompt_end_at, drawn)
        self._memory.run(self._graph.many, binding)
        return self._logits[:drawn]

    def _run_decode(self, rows: tuple[Sequence, ...]) -> npt.NDArray[np.float32]:
        """Logits [rows, vocab] after the newest token of each row."""
        num_rows = len(rows)
        is_many = self.many_from is not None and num_rows >= self.many_from
        session = self._graph.many if is_many else self._graph.few
        lengths = [row.num_tokens for row in rows]
        self._ids[:num_rows, 0] = [last_id(row) for row in rows]
        self._lengths[:num_rows] = lengths
        self._lengths[:num_rows] -= 1
        self._longest[()] = max(lengths)
        binding = self._decode_bindings.get((num_rows, is_many))
        if binding is None:
            binding = self._decode_bindings[num_rows, is_many] = self._bind_cache(
                session, 0, num_rows
            )
            self._bind_draw(binding, self._logits_at, num_rows)
        self._bind_tokens(binding, self._ids, [num_rows, 1])
        self._memory.run(session, binding)
        return self._logits[:num_rows]

    def _bind_tokens(
        self, binding: ort.IOBinding, ids: npt.NDArray[np.int64], shape: list[int]
    ) -> None:
        """What changes from run to run, anew for each: a device gets a copy of it now, not when it runs."""
        bind_input(binding, self._graph.names.input_ids, ids, shape)
        bind_input(binding, LENGTHS, self._lengths, shape[:1])
        bind_input(binding, LONGEST, self._longest, [])

    def _bind_draw(
        self, binding: ort.IOBinding, logits_at: npt.NDArray[np.int64], drawn: int
    ) -> None:
        bind_input(binding, LOGITS_AT, logits_at, [drawn, 2])
        shape = [drawn, self._graph.vocab_size]
        bind_output(binding, self._graph.names.logits, self._logits, shape)

    def _bind_cache(
        self, session: ort.InferenceSession, slot: int, num_slots: int
    ) -> ort.IOBinding:
        """Past and present of all layers at the same addresses: the graph writes in place."""
        memory, dtype = self._memory, self._graph.kv.dtype
        at = memory.device_type, memory.device_id, dtype, self._slab.row_shape(num_slots)
        binding, names = memory.open_binding(session), self._graph.names
        for layer, address in enumerate(self._slab.addresses(slot, num_slots)):
            for past, present, pointer in (
                (names.past_key, names.present_key, address.key),
                (names.past_value, names.present_value, address.value),
            ):
                binding.bind_input(past % layer, *at, pointer)
                binding.bind_output(present % layer, *at, pointer)
        return binding
