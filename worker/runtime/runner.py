"""Batch → tokens: copy rows, run each prompt chunk, run all decoding rows at once, draw.

Every run covers a contiguous range of KV slots, bound by address, keys and values written in place. Inputs are those of
`worker.runtime.graphs.edit`; T_r is the number of tokens of row r after the run:

    prefill   one slot, S positions [start, end)   lengths [end - 1], longest = end, exactly;
              some chunks take two runs (worker.runtime.tiles)
    decode    slots 0 … d-1, S = 1                 lengths [T_r - 1 …], longest = max T

ONNX Runtime takes a run with S == longest for a first prompt, and the past from lengths and shapes alone. A wrong
number is not an error there but silent nonsense, so every number is asserted here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from worker.engine.ports import Batch, CacheLayout, Sampled
from worker.engine.sequence import Sequence
from worker.runtime.graphs.edit import LENGTHS, LOGITS_AT, LONGEST
from worker.runtime.kv_slab import KvSlab
from worker.runtime.sampler import Sampler
from worker.runtime.session import Graph
from worker.runtime.tiles import level2_cache_bytes, query_tile, runs

__all__ = ["OnnxRunner"]


class OnnxRunner:
    """Implements `worker.engine.ports.ModelRunner`. One thread at a time."""

    def __init__(self, graph: Graph, layout: CacheLayout) -> None:
        self._graph = graph
        self._slab = KvSlab(
            layout,
            num_layers=graph.num_layers,
            num_kv_heads=graph.num_kv_heads,
            head_size=graph.head_size,
        )
        self.many_from: int | None = None
        """Rows from which a decode run takes the form of the weights for many positions; None: never."""
        self._sampler = Sampler()
        self._tile = query_tile(graph.head_size, level2_cache_bytes())
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
        return f"<OnnxRunner {self._slab!r}>"

    @property
    def layout(self) -> CacheLayout:
        return self._slab.layout

    def run(self, batch: Batch) -> list[Sampled]:
        """Copies, loads, prefill chunks, decode; one result per chunk that ends its prompt and per decoding row."""
        sampled: list[Sampled] = []
        for sequences, logits in self.compute(batch):
            sampled += self._sampler.sample(logits, sequences)
        return sampled

    def compute(
        self, batch: Batch
    ) -> Iterator[tuple[tuple[Sequence, ...], npt.NDArray[np.float32]]]:
        """The same without drawing: (sequences, logits [rows, vocab]) per run that ends in a token.

        The logits are a view of a buffer that the next run overwrites.
        """
        self._check(batch)
        for copy in batch.copies:
            self._slab.copy(copy.source, copy.target, copy.num_tokens)
        for load in batch.loads:
            self._slab.load(load.slot, load.blocks)
        for chunk in batch.prefill:
            *whole, (start, end) = runs(chunk.start, chunk.end, self._tile)
            for run in whole:
                self._run_prefill(chunk.sequence, *run, draws=False)
            logits = self._run_prefill(chunk.sequence, start, end, draws=chunk.is_last)
            for save in chunk.saves:
                self._slab.save(_slot(chunk.sequence), save.start, save.block)
            if chunk.is_last:
                for follower in chunk.followers:
                    self._slab.copy(_slot(chunk.sequence), _slot(follower), chunk.end)
                sequences = (chunk.sequence, *chunk.followers)
                yield sequences, np.broadcast_to(logits, (len(sequences), logits.shape[1]))
        if batch.decode:
            yield batch.decode, self._run_decode(batch.decode)

    def release(self, sequence: Sequence) -> None:
        """Forgets the penalty counts of a sequence."""
        self._sampler.release(sequence)

    def _run_prefill(
        self, sequence: Sequence, start: int, end: int, *, draws: bool
    ) -> npt.NDArray[np.float32]:
        """Prompt positions [start, end); logits [1, vocab] after the last of them if it `draws`, else [0, vocab]."""
        slot, size, drawn = _slot(sequence), end - start, int(draws)
        self._prompt_ids[0, :size] = sequence.prompt_ids[start:end]
        self._prompt_end_at[0, 1] = size - 1
        # Equal to S for the first chunk alone, as the rules for first prompts demand.
        self._lengths[0], self._longest[()] = end - 1, end
        binding = self._prefill_bindings.get(slot)
        if binding is None:
            binding = self._prefill_bindings[slot] = self._bind_row_inputs(
                self._graph.many, slot, 1
            )
        _bind_input(binding, self._graph.names.input_ids, self._prompt_ids, [1, size])
        self._bind_draw(binding, self._prompt_end_at, drawn)
        self._graph.many.run_with_iobinding(binding)
        return self._logits[:drawn]

    def _run_decode(self, rows: tuple[Sequence, ...]) -> npt.NDArray[np.float32]:
        """Logits [rows, vocab] after the newest token of each row."""
        num_rows = len(rows)
        is_many = self.many_from is not None and num_rows >= self.many_from
        session = self._graph.many if is_many else self._graph.few
        lengths = [row.num_tokens for row in rows]
        self._ids[:num_rows, 0] = [_last_id(row) for row in rows]
        self._lengths[:num_rows] = lengths
        self._lengths[:num_rows] -= 1
        self._longest[()] = max(lengths)
        binding = self._decode_bindings.get((num_rows, is_many))
        if binding is None:
            binding = self._decode_bindings[num_rows, is_many] = self._bind_row_inputs(
                session, 0, num_rows
            )
            _bind_input(binding, self._graph.names.input_ids, self._ids, [num_rows, 1])
            self._bind_draw(binding, self._logits_at, num_rows)
        session.run_with_iobinding(binding)
        return self._logits[:num_rows]

    def _bind_row_inputs(
        self, session: ort.InferenceSession, slot: int, num_slots: int
    ) -> ort.IOBinding:
        """Cache and lengths of a range of slots. What changes from run to run is written to where it is bound."""
        binding = self._bind_cache(session, slot, num_slots)
        _bind_input(binding, LENGTHS, self._lengths, [num_slots])
        _bind_input(binding, LONGEST, self._longest, [])
        return binding

    def _bind_draw(
        self, binding: ort.IOBinding, logits_at: npt.NDArray[np.int64], drawn: int
    ) -> None:
        _bind_input(binding, LOGITS_AT, logits_at, [drawn, 2])
        shape = [drawn, self._graph.vocab_size]
        _bind_output(binding, self._graph.names.logits, self._logits, shape)

    def _bind_cache(
        self, session: ort.InferenceSession, slot: int, num_slots: int
    ) -> ort.IOBinding:
        """Past and present of all layers at the same addresses: the graph writes in place."""
        binding = session.io_binding()
        names, shape = self._graph.names, self._slab.row_shape(num_slots)
        for layer, address in enumerate(self._slab.addresses(slot, num_slots)):
            for past, present, pointer in (
                (names.past_key, names.present_key, address.key),
                (names.past_value, names.present_value, address.value),
            ):
                binding.bind_input(past % layer, "cpu", 0, np.float32, shape, pointer)
                binding.bind_output(present % layer, "cpu", 0, np.float32, shape, pointer)
        return binding

    def _check(self, batch: Batch) -> None:
        """What the engine must hold to; an AssertionError here is a bug there, never bad input."""
        num_slots, capacity = self.layout.num_slots, self.layout.capacity
        decoding = len(batch.decode)
        _demand(decoding <= num_slots, f"{decoding} rows for {num_slots} slots")
        for at, row in enumerate(batch.decode):
            _demand(row.slot == at, f"row {at} of the decode run is in slot {row.slot}")
            _demand(row.num_tokens >= 1, f"row {at} has no token to start from")
            _demand(
                row.num_computed_tokens == row.num_tokens - 1, f"row {at} lacks keys and values"
            )
            _demand(
                row.num_tokens <= capacity,
                f"row {at}: {row.num_tokens} tokens, capacity {capacity}",
            )
        for chunk in batch.prefill:
            slot = _slot(chunk.sequence)
            _demand(
                decoding <= slot < num_slots, f"chunk in slot {slot}, decode run up to {decoding}"
            )
            _demand(
                0 <= chunk.start < chunk.end <= chunk.sequence.num_prompt_tokens <= capacity,
                f"chunk [{chunk.start}, {chunk.end}) of {chunk.sequence.num_prompt_tokens}, capacity {capacity}",
            )
            for follower in chunk.followers:
                _demand(
                    slot < _slot(follower) < num_slots,
                    f"follower in slot {follower.slot} of a chunk in slot {slot}",
                )


def _slot(sequence: Sequence) -> int:
    _demand(sequence.slot is not None, f"sequence {sequence.id} has no slot")
    return sequence.slot or 0


def _last_id(sequence: Sequence) -> int:
    return sequence.generated_ids[-1] if sequence.generated_ids else sequence.prompt_ids[-1]


def _bind_input(binding: Any, name: str, array: npt.NDArray[Any], shape: list[int]) -> None:
    """Binds the beginning of `array` under `shape`; there are no bounds behind a raw address but these."""
    _demand(array.size >= int(np.prod(shape)), f"{name}: {shape} in a buffer of {array.size}")
    binding.bind_input(name, "cpu", 0, array.dtype.type, shape, array.ctypes.data)


def _bind_output(binding: Any, name: str, array: npt.NDArray[Any], shape: list[int]) -> None:
    _demand(array.size >= int(np.prod(shape)), f"{name}: {shape} in a buffer of {array.size}")
    binding.bind_output(name, "cpu", 0, array.dtype.type, shape, array.ctypes.data)


def _demand(condition: bool, message: str) -> None:  # noqa: FBT001 - reads like assert, which -O would remove
    if not condition:
        raise AssertionError(message)
