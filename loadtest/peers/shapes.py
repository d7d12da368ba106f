"""Random weights in the shape of a real model, as a Hugging Face folder: for load, where answers do not matter.

`python -m loadtest.peers.shapes 135m DIR`    SmolLM2-135M's shape
`python -m loadtest.peers.shapes 1b DIR`      Llama-3.2-1B's shape

Speed depends on shapes and precision, not on values; the spread of the weights is a trained model's, so that quantising
them and comparing logits means something. Needs torch and transformers (`training/demo/requirements.txt`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from training.goldens.tiny_models import byte_tokenizer

__all__ = ["SHAPES", "main"]

SEED: Final = 11
SHAPES: Final = {
    "135m": LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=49_152,
        tie_word_embeddings=True,
        max_position_embeddings=8192,
        rope_theta=100_000.0,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=0,
    ),
    "1b": LlamaConfig(
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        vocab_size=128_256,
        tie_word_embeddings=True,
        max_position_embeddings=8192,
        rope_theta=500_000.0,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=0,
    ),
}


def main() -> None:
    """Writes one folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", choices=tuple(SHAPES))
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(SHAPES[arguments.shape]).to(torch.bfloat16)
    model.save_pretrained(arguments.folder)
    byte_tokenizer().save_pretrained(arguments.folder)
    num = sum(parameter.numel() for parameter in model.parameters())
    print(f"{arguments.folder}: {num / 1e6:.0f} million parameters")


if __name__ == "__main__":
    main()
