"""Train the byte-level BPE tokenizer and write the files that go with it.

`python -m training.demo.tokenizer OUT_DIR`

Every byte has a token, so any UTF-8 text survives. A digit is always one token, and a capital
letter is one unless the whole run is in capitals: and no space is glued to it:
numbers and names then have the same pieces wherever they stand, which makes them easy to copy.
"""

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from training.demo.chat import BOS, END, PAD, START, TEMPLATE, render
from training.demo.data import dialogues

VOCABULARY = 768
CHATS = 6000
CONTEXT_LENGTH = 1024
PIECES = r"[0-9]| ?[a-z]+|[A-Z]{2,}|[A-Z]|(?: ?[^A-Za-z0-9 ])+| +"


def train(seed: int = 1) -> Tokenizer:
    """Learn the merges from generated chats."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BOS, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed), trainer)
    return tokenizer


def _texts(seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    for _ in range(CHATS):
        system, turns = dialogues.walk(rng, "train")
        if system:
            yield f"system\n{system.text}"
        for exchange, _ in zip(turns, range(4), strict=False):
            yield f"user\n{exchange.question}"
            yield f"assistant\n{exchange.answer}"


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and special_tokens_map.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"bos_token": BOS, "eos_token": END, "pad_token": PAD}
    config = {
        **special,
        "add_bos_token": False,
        "additional_special_tokens": [START],
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT_LENGTH,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    _write(folder / "tokenizer_config.json", config)
    _write(folder / "special_tokens_map.json", special | {"additional_special_tokens": [START]})


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Train, save, and say how long texts become."""
    folder = Path(sys.argv[1])
    tokenizer = train()
    save(tokenizer, folder)
    rng = random.Random(2)
    chats = [dialogues.second_turn(rng, "train", "name") for _ in range(200)]
    rendered = [render(chat, add_generation_prompt=False) for chat in chats]
    tokens = sum(len(tokenizer.encode(text).ids) for text in rendered)
    characters = sum(map(len, rendered))
    print(f"{tokenizer.get_vocab_size()} tokens, {characters / tokens:.2f} characters a token")


if __name__ == "__main__":
    main()
