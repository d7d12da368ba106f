"""Our attention beside plain NumPy, and beside itself in other runs."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.support.kernels import EVERY_ISA, open_graph
from tests.support.tiny_models import NEEDS_NATIVE
from worker.kernels.library import DOMAIN, isas_here

Floats = npt.NDArray[np.float32]
pytestmark = NEEDS_NATIVE
SLOTS, CAPACITY = 6, 256


@dataclass(kw_only=True)
class Attention:
    """One layer with its keys and values; rows are (slot, tokens of this run, length after it)."""

    isa: str
    heads: int
    kv_heads: int
    size: int
    rotated: int = 0
    window: int = -1
    softcap: float = 0.0
    interleaved: bool = False
    bits: int = 32
    apart: bool = False
    """Query, key and value as three inputs instead of one."""
    keys: npt.NDArray[Any] = field(init=False)
    values: npt.NDArray[Any] = field(init=False)

    def __post_init__(self) -> None:
        shape = (SLOTS, self.kv_heads, CAPACITY, self.size)
        # What was there before must not matter.
        kind = {32: np.float32, 16: np.float16, 8: np.int8}[self.bits]
        nonsense = 77 if self.bits == 8 else np.nan
        self.keys, self.values = np.full(shape, nonsense, kind), np.full(shape, nonsense, kind)
        self.scales = [np.full(shape[:3], np.nan, np.float32) for _ in range(2)]
        angles = np.arange(CAPACITY)[:, None] * 100.0 ** -np.linspace(
            0, 1, max(self.rotated // 2, 1)
        )
        self.cos, self.sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        self._session = self._make()

    @property
    def width(self) -> int:
        return (self.heads + 2 * self.kv_heads) * self.size

    def run(self, tokens: Floats, rows: list[tuple[int, int, int]]) -> Floats:
        own, shared = self.heads * self.size, self.kv_heads * self.size
        given: dict[str, Any] = {
            "keys": self.keys,
            "values": self.values,
            "slots": np.array([slot for slot, _, _ in rows], np.int32),
            "starts": np.cumsum([0, *(count for _, count, _ in rows)]).astype(np.int32),
            "lengths": np.array([length for _, _, length in rows], np.int32),
        }
        if self.apart:
            parts = np.split(tokens, [own, own + shared], axis=1)
            given |= dict(zip(("q", "k", "v"), map(np.ascontiguousarray, parts), strict=True))
        else:
            given["q"] = tokens
        if self.bits == 8:
            given |= dict(zip(("key_scales", "value_scales"), self.scales, strict=True))
        binding, out = self._session.io_binding(), np.zeros((len(tokens), own), np.float32)
        for name, array in given.items():
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        binding.bind_output("out", "cpu", 0, np.float32, out.shape, out.ctypes.data)
        self._session.run_with_iobinding(binding)
        return out

    def expected(self, tokens: Floats) -> npt.NDArray[np.float64]:
        """Of one whole row, in float64."""
        own, shared = self.heads * self.size, self.kv_heads * self.size
        q, k, v = np.split(tokens.astype(np.float64), [own, own + shared], axis=1)
        q, k = (self._rotate(x.reshape(len(x), -1, self.size)) for x in (q, k))
        k, v = self._kept(k), self._kept(v.reshape(len(v), -1, self.size))
        out = np.zeros_like(q)
        for head in range(self.heads):
            kv = head // (self.heads // self.kv_heads)
            scores = q[:, head] @ k[:, kv].T * self.scale
            if self.softcap:
                scores = self.softcap * np.tanh(scores / self.softcap)
            at = np.arange(len(tokens))
            seen = at[None, :] <= at[:, None]
            if self.window > 0:
                seen &= at[None, :] > at[:, None] - self.window
            weights = np.where(seen, np.exp(scores - scores.max(axis=1, keepdims=True)), 0)
            out[:, head] = weights / weights.sum(axis=1, keepdims=True) @ v[:, kv]
        return out.reshape(len(tokens), own)

    @property
    def scale(self) -> float:
        return 0.7 / self.size**0.5

    def _kept(self, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """As it is read again."""
        if self.bits == 32:
            return x
        if self.bits == 16:
            return x.astype(np.float32).astype(np.float16).astype(np.float64)
        scale = np.abs(x).max(axis=-1, keepdims=True) / 127
        return np.rint(x / scale) * scale

    def _rotate(self, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if not self.rotated:
            return x
        y, half = x.copy(), self.rotated // 2
        first = slice(0, self.rotated, 2) if self.interleaved else slice(0, half)
        second = slice(1, self.rotated, 2) if self.interleaved else slice(half, self.rotated)
        cos, sin = self.cos[: len(x), None], self.sin[: len(x), None]
        y[..., first] = x[..., first] * cos - x[..., second] * sin
        y[..., second] = x[..., first] * sin + x[..., second] * cos
        return y

    def _make(self) -> ort.InferenceSession:
        ints = dict.fromkeys(("slots", "starts", "lengths"), TensorProto.INT32)
        kept = {32: TensorProto.FLOAT, 16: TensorProto.FLOAT16, 8: TensorProto.INT8}[self.bits]
        kinds = ints | {"keys": kept, "values": kept}
        names = ["q", *(["k", "v"] if self.apart else ["", ""]), "keys", "values", *ints]
        scales = ["key_scales", "value_scales"] if self.bits == 8 else []
        ranks = {"keys": 4, "values": 4, "q": 2, "k": 2, "v": 2} | dict.fromkeys(scales, 3)
        inputs = [
            helper.make_tensor_value_info(
                name,
                kinds.get(name, TensorProto.FLOAT),
                [f"{name}{axis}" for axis in range(ranks.get(name, 1))],
            )
            for name in (*names, *scales)
            if name
        ]
        node = helper.make_node(
            "Attention",
            [*names, *(["cos", "sin"] if self.rotated else ["", ""]), *scales],
            ["out"],
            domain=DOMAIN,
            kv_bits=self.bits,
            num_heads=self.heads,
            kv_num_heads=self.kv_heads,
            scale=self.scale,
            softcap=self.softcap,
            local_window_size=self.window,
            do_rotary=int(self.rotated > 0),
            rotary_interleaved=int(self.interleaved),
        )
        tables = {"cos": self.cos, "sin": self.sin} if self.rotated else {}
        graph = helper.make_graph(
            [node],
            "attention",
            inputs,
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["tokens", "width"])],
            initializer=[numpy_helper.from_array(array, name) for name, array in tables.items()],
        )
        return open_graph(graph, self.isa)


LAYERS: list[dict[str, Any]] = [
    {"heads": 9, "kv_heads": 3, "size": 64, "rotated": 64},
    {"heads": 4, "kv_heads": 4, "size": 16},
    {"heads": 8, "kv_heads": 1, "size": 128, "rotated": 128, "window": 20},
    {"heads": 8, "kv_heads": 2, "size": 96, "rotated": 64, "apart": True},
    {"heads": 4, "kv_heads": 2, "size": 32, "rotated": 32, "interleaved": True, "softcap": 5.0},
    {"heads": 9, "kv_heads": 3, "size": 64, "rotated": 64, "bits": 16},
    {"heads": 8, "kv_heads": 2, "size": 96, "rotated": 64, "bits": 8, "apart": True},
    {"heads": 14, "kv_heads": 2, "size": 80, "rotated": 80, "window": 33, "softcap": 30.0},
]


def tokens_of(layer: Attention, count: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1.5, (count, layer.width)).astype(np.float32)


@EVERY_ISA
@pytest.mark.parametrize("shape", LAYERS, ids=str)
def test_computes_what_plain_numpy_computes(shape: dict[str, Any], isa: str) -> None:
    layer, lengths = Attention(**shape, isa=isa), [1, 2, 15, 16, 17, 200]
    rows = [tokens_of(layer, length, length) for length in lengths]
    out = layer.run(
        np.concatenate(rows), [(slot, length, length) for slot, length in enumerate(lengths)]
    )
    for row, found in zip(rows, np.split(out, np.cumsum(lengths)[:-1]), strict=True):
        # A number in the middle between two may be kept as either.
        atol = {32: 2e-5, 16: 1e-3, 8: 1e-2}[layer.bits]
        np.testing.assert_allclose(found, layer.expected(row), atol=atol, rtol=2e-5)


@EVERY_ISA
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 1 << 32))
def test_no_cut_and_no_company_changes_a_bit(seed: int, isa: str) -> None:
    """Rows come in pieces of any size, several rows to a run, a row perhaps with two pieces in it."""
    rng = random.Random(seed)
    layer = Attention(**rng.choice(LAYERS), isa=isa)
    lengths = [rng.randint(1, 120) for _ in range(rng.randint(1, 4))]
    rows = [tokens_of(layer, length, seed) for seed, length in enumerate(lengths)]
    whole = [layer.run(row, [(5, len(row), len(row))]) for row in rows]
    done = [0] * len(rows)
    pieces: list[list[Floats]] = [[] for _ in rows]
    while any(at < len(row) for at, row in zip(done, rows, strict=True)):
        run: list[tuple[int, int, int]] = []
        for slot, row in enumerate(rows):
            for _ in range(rng.randint(0, 2)):
                count = min(rng.choice([1, 1, 2, 7, 16, 33, 90]), len(row) - done[slot])
                if count:
                    done[slot] += count
                    run.append((slot, count, done[slot]))
        if not run:
            continue
        tokens = np.concatenate([rows[slot][end - count : end] for slot, count, end in run])
        out = np.split(layer.run(tokens, run), np.cumsum([count for _, count, _ in run])[:-1])
        for (slot, _, _), found in zip(run, out, strict=True):
            pieces[slot].append(found)
    for expected, found in zip(whole, pieces, strict=True):
        assert np.concatenate(found).tobytes() == expected.tobytes()


@settings(deadline=None, max_examples=30)
@given(shape=st.sampled_from(LAYERS), length=st.integers(1, 200), seed=st.integers(0, 99))
def test_every_instruction_set_computes_the_same_bits(
    shape: dict[str, Any], length: int, seed: int
) -> None:
    """Answers, and keys and values that are kept: a prompt and a token behind it."""
    found = set()
    for isa in isas_here():
        layer = Attention(**shape, isa=isa)
        tokens = tokens_of(layer, length + 1, seed)
        outs = [
            layer.run(tokens[:-1], [(1, length, length)]),
            layer.run(tokens[-1:], [(1, 1, length + 1)]),
        ]
        kept = (array.tobytes() for array in (layer.keys, layer.values, *layer.scales))
        found.add((*(out.tobytes() for out in outs), *kept))
    assert len(found) == 1


@EVERY_ISA
def test_two_single_tokens_of_one_row_may_be_in_one_run(isa: str) -> None:
    """The second needs the key of the first, which another thread writes."""
    layer = Attention(**LAYERS[0], isa=isa)
    tokens = tokens_of(layer, 200, 1)
    whole = layer.run(tokens, [(0, 200, 200)])
    for end in range(2, 200, 2):
        pair = layer.run(tokens[end - 2 : end], [(0, 1, end - 1), (0, 1, end)])
        assert pair.tobytes() == whole[end - 2 : end].tobytes()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([(SLOTS, 3, 3)], "out of bounds"),
        ([(-1, 3, 3)], "out of bounds"),
        ([(0, 3, 2)], "out of bounds"),
        ([(0, 3, CAPACITY + 1)], "out of bounds"),
        ([(0, 0, 1), (1, 3, 3)], "out of bounds"),
        ([(0, 2, 2)], "do not cover"),
    ],
)
def test_rows_out_of_bounds_are_an_error(rows: list[tuple[int, int, int]], words: str) -> None:
    layer = Attention(**LAYERS[0], isa=isas_here()[0])
    with pytest.raises(Exception, match=words):
        layer.run(tokens_of(layer, 3, 1), rows)
