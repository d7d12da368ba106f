"""config.json beside an Optimum export, as far as we read it → what genai_config.json would say.

Source: Hugging Face's `PretrainedConfig`, whose older classes (GPT-2) have names of their own for the same sizes.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

__all__ = ["GRAPH", "OptimumConfig"]

GRAPH = "model.onnx"
"""The name that Optimum gives to a decoder which takes its past, if it has one."""

Size = Annotated[int, Field(ge=1)]


class OptimumConfig(BaseModel):
    """The file."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    context_length: Size = Field(
        validation_alias=AliasChoices("max_position_embeddings", "n_positions")
    )
    vocab_size: Size
    hidden_size: Size = Field(validation_alias=AliasChoices("hidden_size", "n_embd"))
    num_hidden_layers: Size = Field(validation_alias=AliasChoices("num_hidden_layers", "n_layer"))
    num_attention_heads: Size = Field(
        validation_alias=AliasChoices("num_attention_heads", "n_head")
    )
    num_key_value_heads: Size | None = None
    """None: as many as there are heads."""
    head_dim: Size | None = None
    """None: the heads share `hidden_size`."""
    eos_token_id: int | list[int]
    """generation_config.json wins where it has one."""

    def as_genai(self) -> dict[str, Any]:
        """The content of a genai_config.json of the family `worker.runtime.models.optimum`, to be checked as one."""
        heads = self.num_attention_heads
        return {
            "model": {
                "type": "optimum",
                "context_length": self.context_length,
                "vocab_size": self.vocab_size,
                "eos_token_id": self.eos_token_id,
                "decoder": {
                    "filename": GRAPH,
                    "head_size": self.head_dim or max(1, self.hidden_size // heads),
                    "num_attention_heads": heads,
                    "num_key_value_heads": self.num_key_value_heads or heads,
                    "num_hidden_layers": self.num_hidden_layers,
                },
            }
        }
