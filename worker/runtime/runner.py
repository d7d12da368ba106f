"""Batch → tokens: copy rows, run each prompt chunk, run all decoding rows at once, draw.

Every run covers a contiguous range of KV slots, bound by address, keys and values written in place:

    prefill   one slot, S positions [start, end)   mask [1, end], all ones: its width is the total length, exactly;
              some chunks take two runs (worker.runtime.tiles)
    decode    slots 0 … d-1, S = 1                 mask [d, w], row r begins with T_r ones, w ≥ max T

ONNX Runtime takes a run with S == total for a first prompt, and takes the past from the shapes alone. A wrong number is
not an error there but silent nonsense, so every number is asserted here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from worker.engine.ports import Batch, CacheLayout, Sampled
from worker.engine.sequence import Sequence
from worker.runtime.kv_slab import KvSlab
from worker.runtime.sampler import Sampler
from worker.runtime.session import Graph
from worker.runtime.tiles import level2_cache_bytes, query_tile, runs

__all__ = ["OnnxRunner"]

MASK_STEP: Final = 64
"""Decode masks are a multiple of it wide (capacity permitting), so that shapes change once in 64 steps."""


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
        self._sampler = Sampler()
        self._tile = query_tile(graph.head_size, level2_cache_bytes())
        self._decode_bindings: dict[int, ort.IOBinding] = {}
        self._prefill_bindings: dict[int, ort.IOBinding] = {}
        # Buffers keep their address for good; what is not written takes no memory.
        slots, capacity = layout.num_slots, layout.capacity
        self._decode_ids = np.zeros((slots, 1), np.int64)
        self._decode_mask = np.zeros(slots * capacity, np.int64)
        self._decode_logits = np.zeros((slots, 1, graph.vocab_size), np.float32)
        self._positions = np.arange(capacity, dtype=np.int64)
        self._prefill_ids = np.zeros((1, capacity), np.int64)
        self._prefill_mask = np.ones((1, capacity), np.int64)
        self._prefill_logits = np.empty((1, 0, graph.vocab_size), np.float32)

    def __repr__(self) -> str:
        return f"<OnnxRunner {self._slab!r}>"

    @property
    def layout(self) -> CacheLayout:
        return self._slab.layout

    def run(self, batch: Batch) -> list[Sampled]:
        """Copies, prefill chunks, decode; one result per chunk that ends its prompt and per decoding row."""
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
        for chunk in batch.prefill:
            for start, end in runs(chunk.start, chunk.end, self._tile):
                logits = self._run_prefill(chunk.sequence, start, end)
            if chunk.is_last:
                yield (chunk.sequence,), logits
        if batch.decode:
            yield batch.decode, self._run_decode(batch.decode)

    def release(self, sequence: Sequence) -> None:
        """Forgets the penalty counts of a sequence."""
        self._sampler.release(sequence)

    def _run_prefill(self, sequence: Sequence, start: int, end: int) -> npt.NDArray[np.float32]:
        """Prompt positions [start, end); logits [1, vocab] after the last of them."""
        slot, size = _slot(sequence), end - start
        self._prefill_ids[0, :size] = sequence.prompt_ids[start:end]
        names = self._graph.names
        binding = self._prefill_bindings.get(slot)
        if binding is None:
            binding = self._prefill_bindings[slot] = self._bind_cache(slot, 1)
        _bind_input(binding, names.input_ids, self._prefill_ids, [1, size])
        # Width = past + S: equal to S for the first chunk alone, as the rules for first prompts demand.
        _bind_input(binding, names.attention_mask, self._prefill_mask, [1, end])
        self._make_room(size)
        shape = [1, size, self._graph.vocab_size]
        _bind_output(binding, names.logits, self._prefill_logits, shape)
        self._graph.session.run_with_iobinding(binding)
        return self._prefill_logits[:, size - 1]

    def _make_room(self, num_positions: int) -> None:
        """The graph computes logits for every position: a buffer for the largest chunk so far, in powers of two."""
        if self._prefill_logits.shape[1] < num_positions:
            room = 1 << (num_positions - 1).bit_length()
            self._prefill_logits = np.empty((1, room, self._graph.vocab_size), np.float32)

    def _run_decode(self, rows: tuple[Sequence, ...]) -> npt.NDArray[np.float32]:
        """Logits [rows, vocab] after the newest token of each row."""
        num_rows, capacity = len(rows), self.layout.capacity
        lengths = np.fromiter((row.num_tokens for row in rows), np.int64, num_rows)
        width = min(capacity, -(-int(lengths.max()) // MASK_STEP) * MASK_STEP)
        mask = self._decode_mask[: num_rows * width].reshape(num_rows, width)
        np.less(self._positions[:width], lengths[:, None], out=mask)
        self._decode_ids[:num_rows, 0] = [_last_id(row) for row in rows]
        names = self._graph.names
        binding = self._decode_bindings.get(num_rows)
        if binding is None:
            binding = self._decode_bindings[num_rows] = self._bind_cache(0, num_rows)
            _bind_input(binding, names.input_ids, self._decode_ids, [num_rows, 1])
            shape = [num_rows, 1, self._graph.vocab_size]
            _bind_output(binding, names.logits, self._decode_logits, shape)
        _bind_input(binding, names.attention_mask, mask, [num_rows, width])
        self._graph.session.run_with_iobinding(binding)
        return self._decode_logits[:num_rows, 0]

    def _bind_cache(self, slot: int, num_slots: int) -> ort.IOBinding:
        """Past and present of all layers at the same addresses: the graph writes in place."""
        binding = self._graph.session.io_binding()
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
