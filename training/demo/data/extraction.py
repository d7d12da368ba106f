"""Sentences that hold names, places and numbers; the answer gives the asked fields as JSON."""

import json
import random

from training.demo.data import words
from training.demo.data.exchange import Exchange
from training.demo.data.splits import Frames, Split

SENTENCES = {
    ("name", "city"): Frames(
        train=(
            "{name} lives in {city}.",
            "{name} is from {city}.",
            "{name} moved to {city} last year.",
            "My friend {name} works in {city}.",
            "In {city} I met {name}.",
            "{name} was born in {city}.",
            "Yesterday {name} came back from {city}.",
            "I visited {name} in {city}.",
            "You can find {name} in {city}.",
            "The train to {city} was late, said {name}.",
            "Yesterday I saw {name} in {city}.",
            "Last year {name} came to {city}.",
            "{name} came to {city} by train.",
            "{name} came to {city} yesterday.",
            "When {name} came to {city}, it rained.",
            "{name} went to {city} last year.",
            "{name} came here from {city} last year.",
            "Last year I visited {name} in {city}.",
            "My friend {name} is from {city}.",
            "I met {name} in {city} yesterday.",
        ),
        test=(
            "My friend {name} lives in {city}.",
            "Yesterday I met {name} in {city}.",
            "{name} came to {city} last year.",
            "I know {name} from {city}.",
        ),
    ),
    ("name", "age"): Frames(
        train=(
            "{name} is {age} years old.",
            "{name} is {age}.",
            "{name} turned {age} yesterday.",
            "At {age}, {name} is the oldest here.",
            "My friend {name} is {age} years old.",
            "{name} will be {age} on Monday.",
            "This is {name}, who is {age}.",
            "Here comes {name}, who is {age} years old.",
            "There is {name}, {age}.",
            "At {age}, {name} came back.",
            "At {age}, {name} came to us.",
            "{name} came to us at {age}.",
        ),
        test=(
            "My friend {name} turned {age}.",
            "At {age}, {name} moved out.",
            "Here is {name}, who is {age}.",
        ),
    ),
    ("name", "age", "city"): Frames(
        train=(
            "{name} is {age} years old and lives in {city}.",
            "{name}, {age}, lives in {city}.",
            "{name} from {city} is {age} years old.",
            "{name}, who is {age}, works in {city}.",
            "In {city} lives {name}, who is {age} years old.",
            "At {age}, {name} moved to {city}.",
            "{name} came to {city} at {age}.",
            "At {age}, {name} went to {city}.",
            "When {name} came to {city}, at {age}, it rained.",
            "At the age of {age}, {name} came to {city}.",
            "{name} was born in {city} and is now {age}.",
            "{name} ({age}) is from {city}.",
        ),
        test=(
            "{name} is {age} years old and works in {city}.",
            "{name}, {age}, is from {city}.",
            "{name} lives in {city} and is {age} years old.",
            "At {age}, {name} came to {city}.",
        ),
    ),
    ("name", "item", "amount"): Frames(
        train=(
            "{name} ordered {amount} {item}.",
            "{name} bought {amount} {item}.",
            "{name} wants to buy {amount} {item}.",
            "Please send {amount} {item} to {name}.",
            "{name} sold {amount} {item} yesterday.",
            "We sent {name} {amount} {item}.",
            "There are {amount} {item} for {name}.",
            "{amount} {item} were ordered by {name}.",
            "{name} needs {amount} {item}.",
            "Please bring {amount} {item} to {name}.",
            "Sell {amount} {item} to {name}.",
            "Please give {name} {amount} {item}.",
            "Take {amount} {item} to {name}, please.",
            "Please order {amount} {item} for {name}.",
            "Yesterday {name} sold {amount} {item}.",
            "Tomorrow {name} gets {amount} {item}.",
        ),
        test=(
            "Yesterday {name} bought {amount} {item}.",
            "Please sell {amount} {item} to {name}.",
            "{name} wants {amount} {item}.",
            "{amount} {item} were sent to {name}.",
        ),
    ),
    ("name", "day", "city"): Frames(
        train=(
            "{name} flies to {city} on {day}.",
            "On {day}, {name} travels to {city}.",
            "{name} will be in {city} on {day}.",
            "{name} arrives in {city} on {day}.",
            "On {day} we meet {name} in {city}.",
            "{name} leaves {city} on {day}.",
        ),
        test=(
            "On {day}, {name} flies to {city}.",
            "{name} travels to {city} on {day}.",
            "We meet {name} in {city} on {day}.",
        ),
    ),
    ("name", "city", "item", "amount"): Frames(
        train=(
            "{name} from {city} ordered {amount} {item}.",
            "{name} bought {amount} {item} in {city}.",
            "In {city}, {name} sold {amount} {item}.",
            "Send {amount} {item} to {name} in {city}.",
            "{name}, who lives in {city}, needs {amount} {item}.",
            "Please bring {amount} {item} to {name} in {city}.",
            "Please take {amount} {item} to {name} in {city}.",
        ),
        test=(
            "{name} from {city} bought {amount} {item}.",
            "In {city}, {name} ordered {amount} {item}.",
            "Please send {amount} {item} to {name} in {city}.",
        ),
    ),
    ("item", "price"): Frames(
        train=(
            "The {item} cost {price} euros.",
            "We paid {price} euros for the {item}.",
            "For {price} euros you get the {item}.",
            "The price of the {item} is {price} euros.",
            "They paid {price} euros for the {item}.",
            "I got the {item} for {price} euros.",
            "You can have the {item} for {price} euros.",
            "We sell the {item} for {price} euros.",
            "She paid {price} euros for {item}.",
        ),
        test=("I paid {price} euros for the {item}.", "You get the {item} for {price} euros."),
    ),
}
ASK = Frames(
    train=(
        "Extract {f} as JSON: {s}",
        "Extract {f} as JSON. {s}",
        "Give me {f} as JSON: {s}",
        "Return {f} as JSON: {s}",
        "Find {f} in this sentence and answer in JSON: {s}",
        "Pull {f} out of this sentence as JSON: {s}",
        "{s} Extract {f} as JSON.",
        "Write {f} of this sentence as JSON: {s}",
        "JSON with {f}: {s}",
        "Turn this into JSON with {f}: {s}",
        "Read the sentence and return {f} as JSON. {s}",
        "Please extract {f} as JSON: {s}",
        "{s} Give {f} as JSON.",
        "Extract {f} from this sentence: {s}",
        "Extract {f}: {s}",
    ),
    test=(
        "Please return {f} as JSON: {s}",
        "Read this sentence and give me {f} as JSON: {s}",
        "Find {f} and return JSON: {s}",
        "{s} Return {f} as JSON.",
        "Please give me {f} as JSON. {s}",
        "Extract {f} from the sentence as JSON: {s}",
    ),
)
NUMERIC = ("age", "amount", "price")


def sample(rng: random.Random, split: Split) -> Exchange:
    """Draw a sentence and ask for some of its fields, in any order."""
    keys = rng.choice(tuple(SENTENCES))
    values = _values(rng, split, keys)
    sentence = SENTENCES[keys].pick(rng, split).format(**values)
    asked = list(keys)
    if rng.random() < 0.4:
        rng.shuffle(asked)
    if len(asked) > 2 and rng.random() < 0.35:
        asked.pop()
    if len(asked) == 2 and rng.random() < 0.12:
        asked.pop()
    found = {key: int(values[key]) if key in NUMERIC else values[key] for key in asked}
    return Exchange(
        task="extraction",
        question=ASK.pick(rng, split).format(f=_field_list(rng, asked), s=sentence),
        answer=json.dumps(found, ensure_ascii=False),
        word=values[asked[0]] if len(asked) == 1 else None,
        fields=tuple(values.items()),
    )


def _values(rng: random.Random, split: Split, keys: tuple[str, ...]) -> dict[str, str]:
    makers = {
        "name": lambda: words.name(rng, split),
        "city": lambda: words.city(rng, split),
        "age": lambda: str(rng.randint(5, 99)),
        "item": lambda: words.item(rng, split),
        "amount": lambda: str(rng.randint(2, 60)),
        "day": lambda: rng.choice(words.DAYS),
        "price": lambda: str(rng.randint(2, 300)),
    }
    return {key: makers[key]() for key in keys}


def _field_list(rng: random.Random, keys: list[str]) -> str:
    the = "the " if rng.random() < 0.6 else ""
    named = [the + key for key in keys]
    if len(named) == 1:
        return named[0]
    if rng.random() < 0.2:
        return ", ".join(named)
    return ", ".join(named[:-1]) + " and " + named[-1]
