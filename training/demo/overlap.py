"""Count held-out questions that training asks, too, leaving case and punctuation aside.

`python -m training.demo.overlap --chats 150000`
"""

import argparse
import random
import re
from collections import Counter
from collections.abc import Sequence

from training.demo import heldout
from training.demo.data import dialogues

TURNS = 4
"""Questions taken of each training chat."""


def bare(question: str) -> str:
    """Leave letters and digits, in lower case; signs that calculate stay."""
    return re.sub(r"[^a-z0-9+\-*]+", " ", question.casefold()).strip()


def training_questions(chats: int, seed: int) -> set[str]:
    """Draw chats as training does and collect what they ask."""
    rng, asked = random.Random(seed), set()
    for _ in range(chats):
        _, turns = dialogues.walk(rng, "train")
        asked.update(bare(next(turns).question) for _ in range(TURNS))
    return asked


def overlap(items: Sequence[heldout.Item], asked: set[str]) -> Counter[str]:
    """Count by task the items whose last question is among `asked`."""
    return Counter(item.task for item in items if bare(item.messages[-1]["content"]) in asked)


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chats", type=int, default=150_000)
    parser.add_argument("--each", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    asked = training_questions(arguments.chats, arguments.seed)
    items = heldout.items(arguments.each)
    found = overlap(items, asked)
    print(f"{len(asked)} different training questions")
    for task in dict.fromkeys(item.task for item in items):
        print(f"{task:16} {found[task]:4}")


if __name__ == "__main__":
    main()
