"""A layer of our attention with keys and values of its own, and what plain NumPy computes in its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from tests.support.kernels import open_graph
from worker.kernels.library import DOMAIN

__all__ = ["LAYERS", "AttentionLayer", "Floats", "tokens_of"]

Floats = npt.NDArray[np.float32]


@dataclass(kw_only=True)
class AttentionLayer:
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
    slots: int = 6
    capacity: int = 256
    threads: int = 2
    keys: npt.NDArray[Any] = field(init=False)
    values: npt.NDArray[Any] = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.slots, self.kv_heads, self.capacity, self.size)
        # What was there before must not matter.
        kind = {32: np.float32, 16: np.float16, 8: np.int8}[self.bits]
        nonsense = 77 if self.bits == 8 else np.nan
        self.keys, self.values = np.full(shape, nonsense, kind), np.full(shape, nonsense, kind)
        self.scales = [np.full(shape[:3], np.nan, np.float32) for _ in range(2)]
        angles = np.arange(self.capacity)[:, None] * 100.0 ** -np.linspace(
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
        binding, out = self._session.io_binding(), np.full((len(tokens), own), np.nan, np.float32)
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
        return open_graph(graph, self.isa, threads=self.threads)


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


def tokens_of(layer: AttentionLayer, count: int, seed: int) -> Floats:
    """Query, key and value of so many tokens."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1.5, (count, layer.width)).astype(np.float32)
