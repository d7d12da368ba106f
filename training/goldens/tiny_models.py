"""Random tiny models in the shapes that we serve: a Llama with grouped heads, a Qwen2 with biases and tied embeddings.

They say nothing sensible; they exist so that arithmetic, cache layout and bookkeeping are checked against numbers that
somebody else computed. The weights are spread wider than usual so that the most likely token wins clearly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
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


TINY_MODELS: Final = {"tiny-llama": _llama, "tiny-qwen2": _qwen2}


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
