"""Our own operators: one run for the whole step: prompt chunks, decoding rows, and drafts behind some of these.

Tokens lie one after another; inputs are those of `worker.runtime.graphs.native`. Keys and values of all slots are bound
once and for good.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from worker.engine.ports import Batch, CacheLayout
from worker.engine.sequence import Sequence
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
from worker.runtime.graphs.edit import LENGTHS, LOGITS_AT
from worker.runtime.graphs.native import BEST, KEY_SCALES, SLOTS, STARTS, VALUE_SCALES
from worker.runtime.kv_slab import KvSlab
from worker.runtime.session import Graph

__all__ = ["PackedForward"]


@dataclass(frozen=True, slots=True)
class _Row:
    """Consecutive tokens of one sequence in a run."""

    slot: int
    token_ids: tuple[int, ...]
    length: int
    """Tokens of the sequence after the run."""
    draws: int
    """From how many places, the last ones."""


class PackedForward:
    """Implements `worker.runtime.forward.Forward` on the graph of `worker.runtime.graphs.native`."""

    def __init__(self, graph: Graph, layout: CacheLayout) -> None:
        self._graph = graph
        self._slab = KvSlab(
            layout,
            HostMemory(),  # our operators compute on the processor
            num_layers=graph.num_layers,
            num_kv_heads=graph.num_kv_heads,
            head_size=graph.head_size,
            precision=graph.kv,
        )
        slots = layout.num_slots
        # A sequence has a slot of its own and in one step at most two chunks.
        self._slots = np.zeros(2 * slots, np.int32)
        self._starts = np.zeros(2 * slots + 1, np.int32)
        self._lengths = np.zeros(2 * slots, np.int32)
        self._logits_at = np.zeros((slots + layout.num_drafted, 2), np.int64)
        self._logits = np.zeros((slots + layout.num_drafted, graph.vocab_size), np.float32)
        self._best = np.zeros(slots + layout.num_drafted, np.int64)
        self._ids = np.zeros((1, slots * layout.capacity), np.int64)
        """Keeps its address; what is not written takes no memory."""
        self._bound: tuple[int, int, int] | None = None
        """Tokens, rows and draws of the last run."""
        self._binding = graph.many.io_binding()
        names, shape = graph.names, self._slab.row_shape(slots)
        for layer, address in enumerate(self._slab.addresses(0, slots)):
            for name, kind, dims, pointer in (
                (names.past_key, graph.kv.dtype, shape, address.key),
                (names.past_value, graph.kv.dtype, shape, address.value),
                (KEY_SCALES, np.float32, shape[:3], address.key_scale),
                (VALUE_SCALES, np.float32, shape[:3], address.value_scale),
            ):
                if pointer is not None:
                    self._binding.bind_input(name % layer, "cpu", 0, kind, dims, pointer)

    def __repr__(self) -> str:
        return f"<PackedForward {self._slab!r}>"

    @property
    def layout(self) -> CacheLayout:
        return self._slab.layout

    def compute(self, batch: Batch) -> Iterator[Computed]:
        """See `Forward`."""
        fill_rows(self._slab, batch)
        rows = _rows(batch)
        if not rows:
            return
        self._run(rows)
        for chunk in batch.prefill:
            save_blocks(self._slab, chunk)
        for row in batch.saves:
            self._slab.save(slot_of(row.sequence), row.save.start, row.save.block)
        plain = _without_draft(batch)
        drawn = len(plain)
        for chunk in batch.prefill:
            if chunk.is_last:
                at = slice(drawn, drawn + 1)
                yield end_prompt(self._slab, chunk, self._logits[at], self._best[at])
                drawn += 1
        for draft in batch.drafts:
            places = 1 + len(draft.token_ids)
            at = slice(drawn, drawn + places)
            yield Computed((draft.sequence,) * places, self._logits[at], self._best[at])
            drawn += places
        if plain:
            yield Computed(plain, self._logits[: len(plain)], self._best[: len(plain)])

    def rest(self) -> None:
        """See `Forward`."""
        self._slab.clear()

    def _run(self, rows: list[_Row]) -> None:
        """Leaves what the rows that draw draw from in `_logits` and `_best`, in their order."""
        start = drawn = 0
        for index, row in enumerate(rows):
            end = start + len(row.token_ids)
            self._ids[0, start:end] = row.token_ids
            self._slots[index], self._lengths[index] = row.slot, row.length
            self._starts[index + 1] = end
            self._logits_at[drawn : drawn + row.draws, 1] = range(end - row.draws, end)
            drawn += row.draws
            start = end
        self._bind(num_tokens=start, num_rows=len(rows), drawn=drawn)
        self._graph.many.run_with_iobinding(self._binding)

    def _bind(self, *, num_tokens: int, num_rows: int, drawn: int) -> None:
        """Shapes of this run; addresses never change, so nothing is to do when the run is shaped as the one before."""
        shape = (num_tokens, num_rows, drawn)
        if shape == self._bound:
            return
        self._bound = shape
        binding, names = self._binding, self._graph.names
        bind_input(binding, names.input_ids, self._ids, [1, num_tokens])
        bind_input(binding, SLOTS, self._slots, [num_rows])
        bind_input(binding, STARTS, self._starts, [num_rows + 1])
        bind_input(binding, LENGTHS, self._lengths, [num_rows])
        bind_input(binding, LOGITS_AT, self._logits_at, [drawn, 2])
        bind_output(binding, names.logits, self._logits, [drawn, self._graph.vocab_size])
        bind_output(binding, BEST, self._best, [drawn])


def _rows(batch: Batch) -> list[_Row]:
    """Decoding rows, chunks, then rows with a draft."""
    rows = [
        _Row(slot_of(sequence), (last_id(sequence),), sequence.num_tokens, draws=1)
        for sequence in _without_draft(batch)
    ]
    rows += [
        _Row(
            slot_of(chunk.sequence),
            chunk.token_ids,
            chunk.end,
            draws=int(chunk.is_last),
        )
        for chunk in batch.prefill
    ]
    for draft in batch.drafts:
        token_ids = (last_id(draft.sequence), *draft.token_ids)
        length = draft.sequence.num_tokens + len(draft.token_ids)
        rows.append(_Row(slot_of(draft.sequence), token_ids, length, draws=len(token_ids)))
    return rows


def _without_draft(batch: Batch) -> tuple[Sequence, ...]:
    """Of those that decode."""
    if not batch.drafts:
        return batch.decode
    drafted = {draft.sequence for draft in batch.drafts}
    return tuple(sequence for sequence in batch.decode if sequence not in drafted)
