"""Words to say again, exactly. Simple, and what teaches the model to copy at all."""

import random

from training.demo.data import words
from training.demo.data.exchange import Exchange
from training.demo.data.splits import Frames, Split

ASK = Frames(
    train=(
        "Repeat: {t}",
        "Repeat after me: {t}",
        "Say: {t}",
        "Repeat this: {t}",
        "Please repeat: {t}",
        "Copy this text: {t}",
        "Write this again: {t}",
        "Echo: {t}",
    ),
    test=("Please repeat this: {t}", "Copy this: {t}", "Please repeat after me: {t}"),
)
MAKERS = (words.name, words.name, words.city, words.item, words.thing)


def sample(rng: random.Random, split: Split) -> Exchange:
    """Draw one to six words and ask for them again."""
    text = " ".join(rng.choice(MAKERS)(rng, split) for _ in range(rng.randint(1, 6)))
    return Exchange(task="echo", question=ASK.pick(rng, split).format(t=text), answer=text)
