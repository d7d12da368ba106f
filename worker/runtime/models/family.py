"""What the runtime has to know of an architecture; a value, not code."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

__all__ = ["CacheRule", "GraphNames", "ModelFamily"]


class CacheRule(Enum):
    """How keys and values lie in memory."""

    SHARED_ROWS = auto()
    """One buffer [slots, kv_heads, capacity, head_size] per layer, bound as past and as present: the graph
    (GroupQueryAttention) writes new positions in place. Positions count from 0 in every row."""
    GROWING = auto()
    """The graph takes a past [1, kv_heads, positions, head_size] and returns it with the new positions at its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphNames:
    """Names of graph inputs and outputs; `%d` stands for the layer."""

    input_ids: str = "input_ids"
    attention_mask: str = "attention_mask"
    position_ids: str = ""
    """Empty for a graph that counts by itself."""
    past_key: str = "past_key_values.%d.key"
    past_value: str = "past_key_values.%d.value"
    logits: str = "logits"
    present_key: str = "present.%d.key"
    present_value: str = "present.%d.value"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFamily:
    """One architecture as the onnxruntime-genai builder exports it, or all of them as another exporter does."""

    name: str
    model_types: frozenset[str]
    """Values of `model.type` in genai_config.json that belong to it, and of `model_type` in config.json."""
    architectures: frozenset[str]
    """Hugging Face classes (`architectures` in config.json) that the builder exports to it."""
    keeps_window: bool = True
    """Whether the builder exports the sliding window that config.json may name. Without it a model is what its authors
    made as long as nothing is longer than the window."""
    names: GraphNames = field(default_factory=GraphNames)
    """Defaults; genai_config.json wins where it names a tensor."""
    cache: CacheRule = CacheRule.SHARED_ROWS
