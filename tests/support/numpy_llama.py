"""Llama and Qwen2 in plain NumPy, float64, no cache: the slow and obvious way, to hold the fast one against.

Only the weights come from the exported graph; norms, rotary positions, attention and MLP are written down anew from the
papers, and nothing of worker.runtime is used.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

__all__ = ["NumpyLlama"]

Array = npt.NDArray[np.float64]


class NumpyLlama:
    """Weights of an fp32 export of the onnxruntime-genai builder."""

    def __init__(self, folder: Path, *, rope_theta: float = 10_000.0) -> None:
        graph = onnx.load(folder / "model.onnx").graph
        self._weights: dict[str, Array] = {
            item.name: numpy_helper.to_array(item).astype(np.float64) for item in graph.initializer
        }
        decoder = json.loads((folder / "genai_config.json").read_text())["model"]["decoder"]
        self._num_layers: int = decoder["num_hidden_layers"]
        self._num_heads: int = decoder["num_attention_heads"]
        self._num_kv_heads: int = decoder["num_key_value_heads"]
        self._head_size: int = decoder["head_size"]
        self._epsilon = _epsilon(graph)
        self._theta = rope_theta

    def logits(self, ids: list[int]) -> Array:
        """[len(ids), vocab]: after each position."""
        head = self._weights["lm_head.MatMul.weight"]
        embedding = self._weights.get("model.embed_tokens.weight", head.T)
        x = embedding[ids]
        for layer in range(self._num_layers):
            x = x + self._attention(layer, self._norm(f"layers.{layer}.input_layernorm", x))
            x = x + self._mlp(layer, self._norm(f"layers.{layer}.post_attention_layernorm", x))
        return self._norm(f"layers.{self._num_layers}.final_norm_layernorm", x) @ head

    def greedy(self, ids: list[int], num_tokens: int) -> list[int]:
        """The most likely continuation."""
        answer: list[int] = []
        for _ in range(num_tokens):
            answer.append(int(self.logits(ids + answer)[-1].argmax()))
        return answer

    def _norm(self, name: str, x: Array) -> Array:
        scale = np.sqrt((x * x).mean(axis=-1, keepdims=True) + self._epsilon)
        normed: Array = x / scale * self._weights[f"model.{name}.weight"]
        return normed

    def _attention(self, layer: int, x: Array) -> Array:
        prefix = f"model.layers.{layer}.attn"
        packed = x @ self._weights[f"{prefix}.qkv_proj.MatMul.weight"]
        packed = packed + self._weights.get(f"{prefix}.qkv_proj.Add.bias", 0.0)
        size, kv = self._num_heads * self._head_size, self._num_kv_heads * self._head_size
        length = len(x)
        q = self._rotate(packed[:, :size].reshape(length, self._num_heads, self._head_size))
        k = self._rotate(
            packed[:, size : size + kv].reshape(length, self._num_kv_heads, self._head_size)
        )
        v = packed[:, size + kv :].reshape(length, self._num_kv_heads, self._head_size)
        group = self._num_heads // self._num_kv_heads
        mixed = np.empty_like(q)
        for head in range(self._num_heads):
            scores = q[:, head] @ k[:, head // group].T / np.sqrt(self._head_size)
            scores[np.triu_indices(length, 1)] = -np.inf
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            mixed[:, head] = weights / weights.sum(axis=-1, keepdims=True) @ v[:, head // group]
        out: Array = mixed.reshape(length, size) @ self._weights[f"{prefix}.o_proj.MatMul.weight"]
        return out

    def _rotate(self, x: Array) -> Array:
        """Rotary positions: the first half of a head pairs with the second."""
        half = self._head_size // 2
        angles = np.outer(np.arange(len(x)), self._theta ** (-np.arange(half) / half))[:, None]
        first, second = x[..., :half], x[..., half:]
        cos, sin = np.cos(angles), np.sin(angles)
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    def _mlp(self, layer: int, x: Array) -> Array:
        prefix = f"model.layers.{layer}.mlp"
        gate = x @ self._weights[f"{prefix}.gate_proj.MatMul.weight"]
        up = x @ self._weights[f"{prefix}.up_proj.MatMul.weight"]
        out: Array = (gate / (1 + np.exp(-gate)) * up) @ self._weights[
            f"{prefix}.down_proj.MatMul.weight"
        ]
        return out


def _epsilon(graph: Any) -> float:
    norm = next(node for node in graph.node if node.op_type == "SimplifiedLayerNormalization")
    return next(float(a.f) for a in norm.attribute if a.name == "epsilon")
