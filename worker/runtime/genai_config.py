"""genai_config.json, as far as we read it: shapes, names and end tokens of an exported model."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["DecoderConfig", "GenaiConfig", "ModelConfig", "TensorNames"]

Positive = Annotated[int, Field(ge=1)]
TokenId = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    """Strict types; keys that we do not read may stand beside ours."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class TensorNames(_Part):
    """Names of tensors; None where the file does not say. `%d` stands for the layer."""

    input_ids: str | None = None
    attention_mask: str | None = None
    position_ids: str | None = None
    past_key_names: str | None = None
    past_value_names: str | None = None
    logits: str | None = None
    present_key_names: str | None = None
    present_value_names: str | None = None

    @model_validator(mode="after")
    def _templates_have_one_layer(self) -> Self:
        for key in (
            "past_key_names",
            "past_value_names",
            "present_key_names",
            "present_value_names",
        ):
            name = getattr(self, key)
            if name is not None and (name.count("%d") != 1 or name.count("%") != 1):
                raise ValueError(f"{key} must hold %d once, for the layer")
        return self


class DecoderConfig(_Part):
    """`model.decoder`."""

    filename: str
    head_size: Positive
    num_attention_heads: Positive
    num_key_value_heads: Positive
    num_hidden_layers: Positive
    inputs: TensorNames = TensorNames()
    outputs: TensorNames = TensorNames()
    sliding_window: dict[str, object] | None = None

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        if "/" in self.filename or self.filename in {"", ".", ".."}:
            raise ValueError(f"filename {self.filename!r} must be a plain name in the model folder")
        return self


class ModelConfig(_Part):
    """`model`."""

    type: str
    context_length: Positive
    vocab_size: Positive
    eos_token_id: TokenId | list[TokenId]
    bos_token_id: TokenId | None = None
    pad_token_id: TokenId | None = None
    decoder: DecoderConfig

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        eos = self.eos_token_id
        return frozenset(eos if isinstance(eos, list) else [eos])

    @model_validator(mode="after")
    def _ends_are_tokens(self) -> Self:
        for token_id in sorted(self.eos_ids):
            if token_id >= self.vocab_size:
                raise ValueError(
                    f"eos_token_id {token_id} is outside the vocabulary of {self.vocab_size} tokens"
                )
        return self


class GenaiConfig(_Part):
    """The file."""

    model: ModelConfig
