"""Reviews made of frames, things and judgements, with negations and contrasts."""

import random

from training.demo.data import words
from training.demo.data.exchange import Exchange
from training.demo.data.splits import Frames, Split

GOOD, BAD = words.listed("good"), words.listed("bad")
LIKE = ("love", "like", "enjoy", "adore", "recommend")
DISLIKE = ("hate", "dislike", "regret", "despise", "detest")

PLAIN = Frames(
    train=(
        "The {n} was {j}.",
        "The {n} is {j}.",
        "This {n} is {j}.",
        "The {n} was really {j}.",
        "I think the {n} is {j}.",
        "I thought the {n} was {j}.",
        "It was {a_j} {n}.",
        "What {a_j} {n}!",
        "The {n} was very {j}.",
        "We found the {n} {j}.",
        "{J} {n}!",
        "Such {a_j} {n}.",
        "The {n} turned out to be {j}.",
        "Our {n} was quite {j}.",
        "In my opinion the {n} is {j}.",
        "My {n} felt {j}.",
        "Honestly, it was {a_j} {n}.",
        "Everyone said the {n} was {j}.",
        "The {n} seemed {j} and so did the staff.",
        "The {n} looked {j}.",
        "It felt {j}.",
        "To me it seemed {j}.",
        "The whole {n} is just {j}.",
    ),
    test=(
        "Honestly, the {n} was {j}.",
        "My {n} turned out to be {j}.",
        "I found the {n} really {j}.",
        "Our {n} felt very {j}.",
        "We thought the {n} was quite {j}.",
        "The {n} seemed {j} to me.",
        "This was {a_j} {n}.",
        "In my opinion this {n} was {j}.",
    ),
)
NEGATED = Frames(
    train=(
        "The {n} was not {j}.",
        "The {n} is not {j}.",
        "This {n} is not {j}.",
        "The {n} was not {j} at all.",
        "It was not {a_j} {n}.",
        "I do not think the {n} is {j}.",
        "The {n} isn't {j}.",
        "The {n} wasn't {j}.",
        "The {n} was never {j}.",
        "We did not find the {n} {j}.",
        "The {n} is far from {j}.",
        "Nobody said the {n} was {j}.",
        "It did not feel {j}.",
        "My {n} is anything but {j}.",
    ),
    test=(
        "My {n} was not {j}.",
        "I did not find the {n} {j}.",
        "This {n} was never {j}.",
        "Our {n} is far from {j}.",
        "We do not think the {n} is {j}.",
        "This {n} isn't {j} at all.",
    ),
)
CONTRAST = Frames(
    train=(
        "I expected {a_o} {n}, but it was {j}.",
        "I heard the {n} was {o}, but it is {j}.",
        "They said it was {o}, but the {n} was {j}.",
        "At first it seemed {o}, but it was {j}.",
        "Some call the {n} {o}, but I think it is {j}.",
    ),
    test=(
        "I heard it was {o}, but the {n} is {j}.",
        "We expected {a_o} {n}, but it was {j}.",
        "They said the {n} was {o}, but it was {j}.",
    ),
)
VERB = Frames(
    train=(
        "I {v} this {n}.",
        "I {v} the {n}.",
        "We {v} the {n}.",
        "I really {v} this {n}.",
        "We all {v} this {n}.",
        "I {v} everything about the {n}.",
        "You will {v} the {n}.",
    ),
    test=("We really {v} this {n}.", "You will {v} this {n}.", "I {v} my {n}."),
)
NO_VERB = Frames(
    train=(
        "I do not {v} this {n}.",
        "I don't {v} the {n}.",
        "We did not {v} the {n}.",
        "Nobody will {v} this {n}.",
        "You will not {v} the {n}.",
    ),
    test=("We do not {v} this {n}.", "I did not {v} the {n}.", "Nobody will {v} the {n}."),
)
ASK = Frames(
    train=(
        "Is this review positive or negative: {r}",
        "Is this review positive or negative? {r}",
        "Positive or negative: {r}",
        "Positive or negative? {r}",
        "Classify the sentiment: {r}",
        "What is the sentiment of this review? {r}",
        "Sentiment of this review: {r}",
        "Sentiment: {r}",
        "Is the following text positive or negative? {r}",
        "Classify this review as positive or negative: {r}",
        "Review: {r} Positive or negative?",
        "Does this review sound positive or negative? {r}",
        '"{r}" Is that positive or negative?',
        "Please classify the sentiment of this text: {r}",
        "Judge this review: {r}",
        "Say if this review is positive or negative: {r}",
        "Is this positive or negative: {r}",
        "{r} Is this review positive or negative?",
    ),
    test=(
        "Say if the following review is positive or negative: {r}",
        "Is this text positive or negative? {r}",
        "Please classify this review as positive or negative: {r}",
        "What is the sentiment of this text? {r}",
        "Classify the sentiment of this review: {r}",
        "{r} Is that positive or negative?",
        "Does the following review sound positive or negative? {r}",
    ),
)


def sample(rng: random.Random, split: Split) -> Exchange:
    """Draw a review and ask whether it is positive or negative."""
    text, label = review(rng, split)
    question = ASK.pick(rng, split).format(r=text)
    return Exchange(task="sentiment", question=question, answer=label, word=label)


def review(rng: random.Random, split: Split) -> tuple[str, str]:
    """Write one or two sentences of one polarity; return them with their label."""
    good = rng.random() < 0.5
    text = _sentence(rng, split, good=good)
    if rng.random() < 0.25:
        text += " " + _sentence(rng, split, good=good)
    return text, "positive" if good else "negative"


def _sentence(rng: random.Random, split: Split, *, good: bool) -> str:
    judgement, opposite = (GOOD, BAD) if good else (BAD, GOOD)
    kind = rng.random()
    if kind < 0.45:
        frame, j, o = PLAIN, judgement, opposite
    elif kind < 0.70:
        frame, j, o = NEGATED, opposite, judgement
    elif kind < 0.82:
        frame, j, o = CONTRAST, judgement, opposite
    else:
        frame, verbs = (VERB, LIKE if good else DISLIKE)
        if kind >= 0.91:
            frame, verbs = (NO_VERB, DISLIKE if good else LIKE)
        return frame.pick(rng, split).format(v=rng.choice(verbs), n=words.thing(rng, split))
    j_word, o_word = rng.choice(j), rng.choice(o)
    return frame.pick(rng, split).format(
        n=words.thing(rng, split),
        j=j_word,
        J=j_word.capitalize(),
        a_j=words.article(j_word),
        o=o_word,
        a_o=words.article(o_word),
    )
