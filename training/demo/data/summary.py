"""Three or four short sentences; the summary is who did what, where and when, in one sentence.

The rule that makes it checkable: `NAME from CITY VERB a ADJECTIVE THING on DAY.` The facts stand
in different sentences, among sentences that say nothing about the event.
"""

import random

from training.demo.data import words
from training.demo.data.exchange import Exchange
from training.demo.data.splits import Frames, Split

VERBS = ("opened", "sold", "bought", "built", "painted", "repaired", "found", "visited", "closed")
ADJECTIVES = ("new", "old", "small", "large", "red", "blue", "green", "famous", "quiet", "modern")

WHO = Frames(
    train=(
        "{name} lives in {city}.",
        "{name} is a teacher in {city}.",
        "{name} comes from {city}.",
        "{name} works as a doctor in {city}.",
        "In {city} there is a young woman called {name}.",
        "{name} has lived in {city} for years.",
        "{name} is well known in {city}.",
    ),
    test=(
        "{name} is a doctor in {city}.",
        "{name} has lived in {city} for many years.",
        "In {city} there is a teacher called {name}.",
    ),
)
EVENT = Frames(
    train=(
        "On {day}, {name} {event}.",
        "{name} {event} on {day}.",
        "Last {day} {name} {event}.",
        "It was {day} when {name} {event}.",
        "At last, on {day}, {name} {event}.",
    ),
    test=("At last, {name} {event} on {day}.", "Then, on {day}, {name} {event}."),
)
FILLER = Frames(
    train=(
        "The weather was cold.",
        "Many people came to see it.",
        "It took a long time.",
        "The sun was shining.",
        "Some friends helped.",
        "The neighbours were happy.",
        "It rained the whole morning.",
        "A newspaper wrote about it.",
        "Nobody had expected that.",
        "There was music and cake.",
        "Then everyone went home.",
        "The work was not easy.",
        "It was a good day for everyone.",
    ),
    test=(
        "The weather was good.",
        "Many friends came to help.",
        "It rained for a long time.",
        "The neighbours had not expected that.",
        "Then there was cake for everyone.",
    ),
)
ASK = Frames(
    train=(
        "Summarize in one sentence: {t}",
        "Summarize this text in one sentence: {t}",
        "Give a one-sentence summary: {t}",
        "Sum this up in one sentence: {t}",
        "Summary: {t}",
        "Write a one-sentence summary of this text: {t}",
        "{t} Summarize that in one sentence.",
        "Please summarize: {t}",
        "What is this text about, in one sentence? {t}",
        "Shorten this to one sentence: {t}",
        "Summarise: {t}",
        "Summarize the following text: {t}",
    ),
    test=(
        "Please summarize this text in one sentence: {t}",
        "Give a one-sentence summary of this text: {t}",
        "{t} Sum that up in one sentence.",
        "Summarize the following text in one sentence: {t}",
    ),
)


def sample(rng: random.Random, split: Split) -> Exchange:
    """Draw a short text and its summary."""
    name, city = words.name(rng, split), words.city(rng, split)
    day = rng.choice(words.DAYS)
    thing = words.article(f"{rng.choice(ADJECTIVES)} {words.thing(rng, split)}")
    event = f"{rng.choice(VERBS)} {thing}"
    fillers = [FILLER.pick(rng, split)]
    if rng.random() < 0.5:
        fillers.append(FILLER.pick(rng, split))
    middle = [fillers.pop()] if rng.random() < 0.5 else []
    told = [
        WHO.pick(rng, split).format(name=name, city=city),
        *middle,
        EVENT.pick(rng, split).format(name=name, day=day, event=event),
        *dict.fromkeys(fillers),
    ]
    return Exchange(
        task="summary",
        question=ASK.pick(rng, split).format(t=" ".join(told)),
        answer=f"{name} from {city} {event} on {day}.",
        fields=(("name", name), ("city", city), ("day", day)),
    )
