"""Questions that only make sense after an earlier turn. Each function returns None if none fits."""

import random

from training.demo.data import facts, sentiment, words
from training.demo.data.exchange import Exchange
from training.demo.data.splits import Frames, Split, pair_split

PLUS = Frames(
    train=(
        "And plus {n}?",
        "Now add {n}.",
        "Add {n} to that.",
        "plus {n}",
        "And {n} more?",
        "Add {n}.",
        "+ {n}",
        "And now plus {n}?",
    ),
    test=("Now plus {n}?", "And add {n} to that.", "Now add {n} to that."),
)
MINUS = Frames(
    train=(
        "And minus {n}?",
        "Now subtract {n}.",
        "Subtract {n} from that.",
        "minus {n}",
        "Take {n} away from that.",
        "Subtract {n}.",
        "- {n}",
        "And now minus {n}?",
    ),
    test=("Now minus {n}?", "And subtract {n} from that.", "Now take {n} away."),
)
FIELD = Frames(
    train=(
        "Now give only the {k}.",
        "Only the {k}, please.",
        "And the {k}?",
        "What is the {k}?",
        "Just the {k}.",
        "Give me only the {k}.",
        "Which {k} was it?",
        "Now only the {k}",
    ),
    test=("Now just the {k}.", "Please give only the {k}.", "And what is the {k}?"),
)
NEXT_REVIEW = Frames(
    train=(
        "And this one: {r}",
        "What about this one: {r}",
        "Now this one: {r}",
        "And this review? {r}",
        "And: {r}",
        "Next: {r}",
    ),
    test=("And now this one: {r}", "What about this review? {r}", "Now this review: {r}"),
)
FIRST = Frames(
    train=(
        "What did I ask first?",
        "What was my first question?",
        "Repeat my first question.",
        "What did I say first?",
        "Tell me my first question.",
        "Which question did I ask first?",
        "What was the first thing that I asked?",
        "Please say my first question again.",
        "Tell me what I said first.",
    ),
    test=(
        "What was the first question?",
        "Please repeat my first question.",
        "Tell me what I asked first.",
    ),
)
AGAIN = Frames(
    train=(
        "Say that again.",
        "Repeat that.",
        "Repeat your last answer.",
        "Once more, please.",
        "Can you repeat that?",
        "Please repeat.",
        "Again, please.",
        "What did you say?",
    ),
    test=("Please repeat that.", "Please say that again.", "Can you say that again?"),
)
MY_NAME = Frames(
    train=(
        "My name is {w}.",
        "I am {w}.",
        "Hello, my name is {w}.",
        "Call me {w}.",
        "Hi, I am {w}.",
        "I'm {w}",
        "my name is {w}",
        "Please remember that I am {w}.",
        "You can call me {w}.",
        "People call me {w}.",
    ),
    test=("Hi, my name is {w}.", "Please call me {w}.", "Hello, I am {w}."),
)
MY_CITY = Frames(
    train=(
        "I live in {w}.",
        "I am from {w}.",
        "My home is in {w}.",
        "I come from {w}.",
        "I work in {w}.",
        "i live in {w}",
        "My city is {w}.",
        "Hello, I am from {w}.",
        "Hi, I live in {w}.",
        "I come from {w} and live there.",
    ),
    test=("I live and work in {w}.", "My home is {w}.", "Hello, I come from {w}."),
)
ASK_NAME = Frames(
    train=(
        "What is my name?",
        "Who am I?",
        "Do you know my name?",
        "Tell me my name.",
        "What am I called?",
        "Say my name.",
        "Do you remember my name?",
        "what is my name",
        "Please tell me my name.",
        "Do you know what my name is?",
        "Can you say who I am?",
        "Say who I am, please.",
        "Do you remember who I am?",
    ),
    test=("Can you tell me my name?", "Please say my name.", "Do you know who I am?"),
)
ASK_CITY = Frames(
    train=(
        "Where do I live?",
        "Which city am I from?",
        "Where am I from?",
        "What is my city?",
        "Do you know where I live?",
        "where do i live",
        "Tell me where I live.",
        "Tell me my city.",
        "Tell me which city I am from.",
        "Do you know where I am from?",
        "Can you say where I live?",
        "Say where I come from.",
    ),
    test=(
        "Can you tell me where I live?",
        "Tell me where I am from.",
        "Do you remember where I live?",
    ),
)
NO_NAME = "You have not told me your name."
NO_CITY = "You have not told me where you live."
FIRST_CHARACTERS_MAX = 60


def calculate_on(rng: random.Random, split: Split, last: Exchange) -> Exchange | None:
    """Add to the last result, or subtract from it."""
    if last.task != "arithmetic" or (value := int(last.fields[0][1])) < 0:
        return None
    low = 10 if split == "test" else 1
    operands = [n for n in range(low, 100) if pair_split(value, n) == split]
    if not operands or (split == "test" and not 10 <= value <= 99):
        return None
    n = rng.choice(operands)
    plus = rng.random() < 0.5
    result = value + n if plus else value - n
    return Exchange(
        task="arithmetic",
        question=(PLUS if plus else MINUS).pick(rng, split).format(n=n),
        answer=f"{value} {'+' if plus else '-'} {n} = {result}",
        word=str(result),
        fields=(("result", str(result)),),
    )


def one_field(rng: random.Random, split: Split, last: Exchange) -> Exchange | None:
    """Ask for one field of the sentence before."""
    if last.task not in ("extraction", "summary") or not last.fields:
        return None
    key, value = rng.choice(last.fields)
    question = FIELD.pick(rng, split).format(k=key)
    return Exchange(task=last.task, question=question, answer=value, word=value, fields=last.fields)


def next_review(rng: random.Random, split: Split, last: Exchange) -> Exchange | None:
    """Give another review without repeating the question."""
    if last.task != "sentiment":
        return None
    text, label = sentiment.review(rng, split)
    question = NEXT_REVIEW.pick(rng, split).format(r=text)
    return Exchange(task="sentiment", question=question, answer=label, word=label)


def next_topic(rng: random.Random, split: Split, last: Exchange) -> Exchange | None:
    """Name another topic after a question about Lepton."""
    return facts.follow_up(rng, split) if last.task == "facts" else None


def again(rng: random.Random, split: Split, last_answer: str, last: Exchange) -> Exchange:
    """Ask for the last answer once more; `last_answer` is the answer as it was given."""
    return Exchange(
        task="again", question=AGAIN.pick(rng, split), answer=last_answer, word=last.word
    )


def first_question(rng: random.Random, split: Split, first: Exchange) -> Exchange | None:
    """Ask what the first question was."""
    if len(first.question) > FIRST_CHARACTERS_MAX:
        return None
    answer = f'You asked: "{first.question}"'
    return Exchange(task="first", question=FIRST.pick(rng, split), answer=answer)


def introduce(rng: random.Random, split: Split) -> Exchange:
    """Tell a name; the name is the exchange's field."""
    name = words.name(rng, split)
    return Exchange(
        task="memory",
        question=MY_NAME.pick(rng, split).format(w=name),
        answer=f"Nice to meet you, {name}.",
        fields=(("name", name),),
    )


def settle(rng: random.Random, split: Split) -> Exchange:
    """Tell a city; the city is the exchange's field."""
    city = words.city(rng, split)
    return Exchange(
        task="memory",
        question=MY_CITY.pick(rng, split).format(w=city),
        answer=f"I will remember {city}.",
        fields=(("city", city),),
    )


def recall_name(rng: random.Random, split: Split, name: str | None) -> Exchange:
    """Ask for the name that was told, if one was."""
    answer = f"Your name is {name}." if name else NO_NAME
    return Exchange(task="memory", question=ASK_NAME.pick(rng, split), answer=answer, word=name)


def recall_city(rng: random.Random, split: Split, city: str | None) -> Exchange:
    """Ask for the city that was told, if one was."""
    answer = f"You live in {city}." if city else NO_CITY
    return Exchange(task="memory", question=ASK_CITY.pick(rng, split), answer=answer, word=city)
