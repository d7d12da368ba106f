"""Questions about Lepton, from `facts.toml`: fixed answers, many wordings."""

import random
import tomllib
from dataclasses import dataclass
from pathlib import Path

from training.demo.data.exchange import Exchange
from training.demo.data.splits import Frames, Split

STEMS = Frames(
    train=(
        "What is {t}?",
        "What's {t}?",
        "Tell me about {t}.",
        "Explain {t}.",
        "What do you know about {t}?",
        "Can you explain {t}?",
        "Please explain {t}.",
        "{t}?",
        "Describe {t}.",
        "I want to know about {t}.",
        "What exactly is {t}?",
        "Could you tell me about {t}?",
        "What is {t} in Lepton?",
        "{t}",
        "In short, what is {t}?",
        "Explain {t} to me.",
        "Can you tell me what {t} is?",
    ),
    test=(
        "Please tell me about {t}.",
        "Can you tell me about {t}?",
        "Explain to me what {t} is.",
        "Could you explain {t}?",
        "Please tell me what {t} is.",
        "Can you describe {t}?",
    ),
)
FOLLOW_UPS = Frames(
    train=(
        "And {t}?",
        "What about {t}?",
        "and {t}",
        "And what is {t}?",
        "Now explain {t}.",
        "What about {t}, then?",
    ),
    test=("And what about {t}?", "Now tell me about {t}.", "And now {t}?"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One answer and the ways to ask for it."""

    answer: str
    topic: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    word: str | None = None


def _load() -> tuple[Fact, ...]:
    text = Path(__file__).with_name("facts.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text)["fact"]
    return tuple(
        Fact(**{key: tuple(v) if isinstance(v, list) else v for key, v in row.items()})
        for row in rows
    )


FACTS = _load()
TOPICAL = tuple(fact for fact in FACTS if fact.topic)


def sample(rng: random.Random, split: Split) -> Exchange:
    """Draw a fact and ask for it in a wording of the split."""
    fact = rng.choice(FACTS)
    own = fact.ask if split == "train" else fact.test
    if not own or (fact.topic and rng.random() < 0.5):
        question = STEMS.pick(rng, split).format(t=rng.choice(fact.topic))
    else:
        question = rng.choice(own)
    return about(fact, casual(rng, question))


def follow_up(rng: random.Random, split: Split) -> Exchange:
    """Draw a second question that only names its topic, such as 'And the router?'."""
    fact = rng.choice(TOPICAL)
    return about(fact, FOLLOW_UPS.pick(rng, split).format(t=rng.choice(fact.topic)))


def about(fact: Fact, question: str) -> Exchange:
    """Pair the question with the fact's answer."""
    return Exchange(task="facts", question=question, answer=fact.answer, word=fact.word)


def casual(rng: random.Random, question: str) -> str:
    """Write the question as people type: lower case, no punctuation, a greeting, a please."""
    if rng.random() < 0.25:
        question = question.lower()
    if rng.random() < 0.25:
        question = question.rstrip("?.!")
    roll = rng.random()
    if roll < 0.04:
        question = question.upper()
    elif roll < 0.08:
        question = rng.choice(("Hi, ", "Hello, ", "Please: ", "ok, ", "Hey, ")) + question
    elif roll < 0.11:
        question = question.rstrip("?.!") + rng.choice((" please", ", please?", ", please."))
    return question[:1].upper() + question[1:] if rng.random() < 0.6 else question
