"""The chat format: the one template, and the tokens of a chat with a mark on what is learnt."""

import random
from collections.abc import Sequence

from tokenizers import Tokenizer

from training.demo.data import dialogues
from training.demo.data.splits import Split

BOS, START, END, PAD = "<|bos|>", "<|im_start|>", "<|im_end|>", "<|pad|>"
TEMPLATE = (
    "{{ '<|bos|>' }}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def render(messages: Sequence[dialogues.Message], *, add_generation_prompt: bool) -> str:
    """Write the messages as one text, exactly as `TEMPLATE` does."""
    text = BOS + "".join(
        f"{START}{message['role']}\n{message['content'].strip()}{END}\n" for message in messages
    )
    return text + f"{START}assistant\n" if add_generation_prompt else text


class Packer:
    """Fills rows with chats: takes turns of a walk until the next one does not fit."""

    def __init__(self, tokenizer: Tokenizer, rng: random.Random, split: Split = "train") -> None:
        self._tokenizer = tokenizer
        self._rng = rng
        self._split = split
        self.shares = dialogues.SHARES

    def row(self, length: int) -> tuple[list[int], list[float]]:
        """Make the tokens of one chat of at most `length` and say how much each one counts."""
        while True:
            ids, learn = self._chat(length)
            if ids:
                return ids, learn

    def _chat(self, length: int) -> tuple[list[int], list[float]]:
        system, turns = dialogues.walk(self._rng, self._split, self.shares)
        ids = self._encode(BOS)
        if system:
            ids += self._encode(f"{START}system\n{system.text}{END}\n")
        learn = [0.0] * len(ids)
        empty = True
        for exchange in turns:
            asked = f"{START}user\n{exchange.question.strip()}{END}\n{START}assistant\n"
            question, answer = self._encode(asked), self._encode(exchange.answer + END)
            after = self._encode("\n")
            if len(ids) + len(question) + len(answer) + len(after) > length:
                break
            ids += question + answer + after
            weight = len(answer) ** -0.5
            learn += [0.0] * len(question) + [weight] * len(answer) + [0.0] * len(after)
            empty = False
        return ([], []) if empty else (ids, learn)

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids
