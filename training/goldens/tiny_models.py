"""Random tiny models, one of each family that we serve: what a family does differently is in each of them.

They say nothing sensible; they exist so that arithmetic, cache layout and bookkeeping are checked against numbers that
somebody else computed. The weights are spread wider than usual so that the most likely token wins clearly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

__all__ = ["CHAT_TEMPLATE", "TINY_MODELS", "byte_tokenizer", "make_tiny_model"]

SPECIAL_TOKENS: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

NAMED_TOKENS: Final = {
    "bos_token": "<|endoftext|>",
    "eos_token": "<|im_end|>",
    "pad_token": "<|endoftext|>",
}

CHAT_TEMPLATE: Final = (
    "{%- for message in messages %}\n"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "{{- '<|im_start|>assistant\\n' }}\n"
    "{%- endif %}\n"
)

VOCAB_SIZE: Final = 300
SEED: Final = 7
TOKENIZER_TEXT: Final = (
    "the router sends the request to a worker and the worker streams the answer back",
    "a small model in a large house: the weights are random and the words are not",
    "one two three four five six seven eight nine ten; is this the end? it is the start",
)

SHARED: Final[dict[str, Any]] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def _llama() -> torch.nn.Module:
    config = LlamaConfig(
        **SHARED,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config)


def _qwen2() -> torch.nn.Module:
    config = Qwen2Config(
        **SHARED,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
    )
    return Qwen2ForCausalLM(config)


SMALL: Final[dict[str, Any]] = SHARED | {
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
WINDOW: Final = 8
"""Tokens that a layer with a sliding window sees: fewer than any prompt here but the shortest."""


def _mistral() -> torch.nn.Module:
    """As from version 0.2 on, without a window: the builder leaves windows out of this family's graphs."""
    return MistralForCausalLM(MistralConfig(**SMALL, sliding_window=None))


def _qwen3() -> torch.nn.Module:
    """Queries and keys are normalised; heads are wider than the hidden size divided by their number."""
    return Qwen3ForCausalLM(Qwen3Config(**SMALL, head_dim=16, tie_word_embeddings=True))


def _gemma2() -> torch.nn.Module:
    """Soft caps on scores and logits, norms before and after, embeddings scaled, every second layer a window."""
    config = Gemma2Config(
        **SMALL, head_dim=16, query_pre_attn_scalar=16, sliding_window=WINDOW, attn_logit_softcapping=5.0,
        final_logit_softcapping=10.0,
    )  # fmt: skip
    return Gemma2ForCausalLM(config)


def _gemma3() -> torch.nn.Module:
    """Queries and keys are normalised; layers with a window rotate by another table than the others, and unscaled."""
    config = Gemma3TextConfig(
        **SMALL, head_dim=16, query_pre_attn_scalar=16, sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention"],
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 1000.0},
            "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 50000.0},
        },
    )  # fmt: skip
    return Gemma3ForCausalLM(config)


def _smollm3() -> torch.nn.Module:
    """Every second layer does not rotate, and has a window."""
    config = SmolLM3Config(
        **SMALL, no_rope_layers=[1, 0], use_sliding_window=True, sliding_window=WINDOW, tie_word_embeddings=True
    )  # fmt: skip
    return SmolLM3ForCausalLM(config)


def _phi3() -> torch.nn.Module:
    """One matrix for query, key and value, one for gate and up."""
    # The builder takes any other length for a model with two tables of rotary positions.
    return Phi3ForCausalLM(Phi3Config(**(SMALL | {"max_position_embeddings": 4096})))


def _gpt2() -> torch.nn.Module:
    """Learned positions, biases everywhere, every head with keys of its own: what no builder's export has."""
    sizes = {
        "n_positions": SHARED["max_position_embeddings"],
        "n_embd": 64,
        "n_layer": 2,
        "n_head": 4,
    }
    shared = {
        key: value
        for key, value in SHARED.items()
        if key not in ("hidden_size", "max_position_embeddings")
    }
    return GPT2LMHeadModel(GPT2Config(**shared, **sizes))


def _granite() -> torch.nn.Module:
    """Scaled embeddings, residuals, scores and logits."""
    config = GraniteConfig(
        **SMALL, embedding_multiplier=3.0, residual_multiplier=0.5, attention_multiplier=0.2, logits_scaling=2.0
    )  # fmt: skip
    return GraniteForCausalLM(config)


TINY_MODELS: Final = {
    "tiny-llama": _llama,
    "tiny-qwen2": _qwen2,
    "tiny-mistral": _mistral,
    "tiny-qwen3": _qwen3,
    "tiny-gemma2": _gemma2,
    "tiny-gemma3": _gemma3,
    "tiny-smollm3": _smollm3,
    "tiny-phi3": _phi3,
    "tiny-granite": _granite,
    "tiny-optimum-llama": _llama,
    "tiny-optimum-gpt2": _gpt2,
}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE: every byte is a token, so that any text and any broken UTF-8 can occur."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TOKENIZER_TEXT, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **NAMED_TOKENS,
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )


def make_tiny_model(name: str, folder: Path) -> None:
    """Writes a Hugging Face model folder (safetensors, tokenizer, template); the same bytes each time."""
    torch.manual_seed(SEED)
    model = TINY_MODELS[name]().eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("bias"):
                parameter.normal_(0.0, 0.3)  # zero by default, which would hide a lost bias
            elif "norm" in key:
                parameter.normal_(1.0, 0.2)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
