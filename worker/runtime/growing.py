"""Graphs that append to their past: a run for each row and tile, its past copied in and what is new copied out.

The slow way: every run reads the whole past of its row and writes it anew. Rows and blocks lie in the slab, so
everything else is as with other graphs.

A prompt is computed in tiles that begin at multiples of TILE whatever chunks it comes in, and a token by itself, so the
shapes of every run, and with them every bit, follow from the positions of its tokens alone. What a chunk leaves of an
unfinished tile is computed with the next one:

    chunks     [0 ────────────── 40)[40 ───────────── 90)        tokens of a prompt of 90
    runs       [0 ────── 32)         [32 ── 64)[64 ── 90)

Blocks of the prefix cache are tiles, so one that is complete with a chunk has been computed with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from worker.engine.ports import Batch, CacheLayout, PrefillChunk
from worker.engine.prefix import BLOCK_TOKENS
from worker.runtime.devices.host import HostMemory
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
from worker.runtime.graphs.edit import LOGITS_AT
from worker.runtime.kv_slab import KvSlab
from worker.runtime.session import Graph

__all__ = ["GrowingForward"]

TILE: Final = BLOCK_TOKENS
"""Tokens of a run."""


class GrowingForward:
    """Implements `worker.runtime.forward.Forward` on the graph of `worker.runtime.graphs.growing`."""

    def __init__(self, graph: Graph, layout: CacheLayout) -> None:
        self._graph = graph
        self._slab = KvSlab(
            layout,
            HostMemory(),
            num_layers=graph.num_layers,
            num_kv_heads=graph.num_kv_heads,
            head_size=graph.head_size,
        )
        names, layers = graph.names, range(graph.num_layers)
        self._past_names = [t % i for t in (names.past_key, names.past_value) for i in layers]
        self._present_names = [
            t % i for t in (names.present_key, names.present_value) for i in layers
        ]
        self._binding = graph.many.io_binding()
        self._ids = np.zeros((1, TILE), np.int64)
        self._positions = np.zeros((1, TILE), np.int64)
        self._mask = np.zeros((1, layout.capacity), np.int64)
        self._draw_at = np.zeros((1, 2), np.int64)
        self._drawn = np.zeros(graph.vocab_size, np.float32)
        self._logits = np.zeros((layout.num_slots, graph.vocab_size), np.float32)
        self._past, self._present = self._row_buffers(), self._row_buffers()

    def __repr__(self) -> str:
        return f"<GrowingForward {self._slab!r}>"

    @property
    def layout(self) -> CacheLayout:
        return self._slab.layout

    def compute(self, batch: Batch) -> Iterator[Computed]:
        """See `Forward`."""
        fill_rows(self._slab, batch)
        for chunk in batch.prefill:
            self._run_chunk(chunk)
            save_blocks(self._slab, chunk)
            if chunk.is_last:
                yield end_prompt(self._slab, chunk, self._logits[:1])
        for at, row in enumerate(batch.decode):
            self._run(slot_of(row), (last_id(row),), row.num_tokens - 1, draws_to=at)
        if batch.decode:
            yield Computed(batch.decode, self._logits[: len(batch.decode)])

    def rest(self) -> None:
        """See `Forward`."""
        self._slab.clear()
        self._past, self._present = self._row_buffers(), self._row_buffers()

    def probe(self, position: int) -> None:
        """Raises what the graph raises at a position. Without a past, which may be more than there is memory for."""
        self._positions[0, 0] = position
        self._bind_run(past=0, size=1, drawn=0)
        self._graph.many.run_with_iobinding(self._binding)

    def _row_buffers(self) -> list[npt.NDArray[np.float32]]:
        """One row without gaps, for each layer's keys, then values; what is not written takes no memory."""
        size = self._graph.num_kv_heads * self.layout.capacity * self._graph.head_size
        return [np.zeros(size, np.float32) for _ in self._past_names]

    def _run_chunk(self, chunk: PrefillChunk) -> None:
        """Its whole tiles, with what the chunk before left of the first; at the end of the prompt logits to row 0."""
        ids, slot = chunk.sequence.prefill_ids, slot_of(chunk.sequence)
        for start in range(chunk.start - chunk.start % TILE, chunk.end, TILE):
            end = min(start + TILE, chunk.end)
            if end - start == TILE or chunk.is_last:
                draws = chunk.is_last and end == chunk.end
                self._run(slot, ids[start:end], start, draws_to=0 if draws else None)

    def _run(self, slot: int, ids: tuple[int, ...], start: int, *, draws_to: int | None) -> None:
        """Tokens at positions from `start` on; the logits after the last of them to row `draws_to`."""
        size, end = len(ids), start + len(ids)
        rows = [plane.rows[slot] for plane in self._slab.planes]
        self._ids[0, :size] = ids
        self._positions[0, :size] = range(start, end)
        self._draw_at[0, 1] = size - 1
        for row, past in zip(rows, self._past, strict=True):
            self._view(past, start)[:] = row[:, :start]
        self._bind_run(past=start, size=size, drawn=int(draws_to is not None))
        self._graph.many.run_with_iobinding(self._binding)
        for row, present in zip(rows, self._present, strict=True):
            row[:, start:end] = self._view(present, end)[:, start:]
        if draws_to is not None:
            self._logits[draws_to] = self._drawn

    def _bind_run(self, *, past: int, size: int, drawn: int) -> None:
        """A run of `size` tokens after `past` others; `drawn` is 1 to get logits, else 0."""
        names, binding, end = self._graph.names, self._binding, past + size
        self._mask[0, :end] = 1
        bind_input(binding, names.input_ids, self._ids, [1, size])
        bind_input(binding, names.attention_mask, self._mask, [1, end])
        if names.position_ids:
            bind_input(binding, names.position_ids, self._positions, [1, size])
        bind_input(binding, LOGITS_AT, self._draw_at, [drawn, 2])
        bind_output(binding, names.logits, self._drawn, [drawn, self._graph.vocab_size])
        for name, before in zip(self._past_names, self._past, strict=True):
            bind_input(binding, name, before, self._shape(past))
        for name, after in zip(self._present_names, self._present, strict=True):
            bind_output(binding, name, after, self._shape(end))

    def _shape(self, num_tokens: int) -> list[int]:
        return [1, self._graph.num_kv_heads, num_tokens, self._graph.head_size]

    def _view(self, buffer: npt.NDArray[np.float32], num_tokens: int) -> npt.NDArray[np.float32]:
        """The beginning of a buffer as [kv_heads, num_tokens, head_size]."""
        _, heads, _, size = self._shape(num_tokens)
        return buffer[: heads * num_tokens * size].reshape(heads, num_tokens, size)
