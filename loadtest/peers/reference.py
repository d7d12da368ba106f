"""Logits of a Hugging Face folder in float32, computed by transformers: what every engine's logits are compared with.

`python -m loadtest.peers.reference DIR FILE`

FILE is an .npz: `prompts` int64 [prompts, tokens], `logits` float32 [prompts, vocab] after the last token of each.
Needs torch and transformers (`training/demo/requirements.txt`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from loadtest.engines.api import random_prompts

__all__ = ["main"]

PROMPTS: Final = 24
TOKENS: Final = 64
SEED: Final = 3


def main() -> None:
    """Writes one file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(arguments.folder, dtype=torch.float32).eval()
    prompts = random_prompts(PROMPTS, TOKENS, vocab_size=model.config.vocab_size, seed=SEED)
    with torch.no_grad():
        logits = torch.cat([model(torch.tensor([ids])).logits[:, -1] for ids in prompts])
    np.savez(arguments.file, prompts=np.array(prompts, np.int64), logits=logits.numpy())


if __name__ == "__main__":
    main()
