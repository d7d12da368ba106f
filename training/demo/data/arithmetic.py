"""Sums and differences of numbers up to two digits, and the table of one-digit products."""

import random

from training.demo.data.exchange import Exchange
from training.demo.data.splits import Frames, Split, draw_pair

PLUS = Frames(
    train=(
        "{a} + {b}",
        "{a}+{b}",
        "{a} + {b} =",
        "{a}+{b}=",
        "{a} + {b} = ?",
        "{a} + {b}?",
        "What is {a} + {b}?",
        "What is {a}+{b}?",
        "What is {a} plus {b}?",
        "{a} plus {b}",
        "Add {a} and {b}.",
        "Please add {a} and {b}.",
        "Add {b} to {a}.",
        "Compute {a} + {b}.",
        "Calculate {a}+{b}",
        "How much is {a} + {b}?",
        "How much is {a} plus {b}?",
        "What is the sum of {a} and {b}?",
        "Sum of {a} and {b}",
        "Can you add {a} and {b}?",
        "What do you get when you add {a} and {b}?",
        "Tell me the sum of {a} and {b}.",
        "Please compute {a} plus {b}.",
        "Can you tell me what {a} + {b} is?",
        "Work out {a}+{b}.",
        "I have {a} coins and get {b} more. How many coins do I have?",
        "There are {a} cups here and {b} cups there. How many cups are there?",
    ),
    test=(
        "Work out {a} plus {b}.",
        "Please tell me {a} + {b}.",
        "Can you compute {a} + {b}?",
        "Calculate the sum of {a} and {b}.",
        "Please calculate {a} + {b}",
        "How much is {a}+{b}?",
        "What do I get when I add {a} and {b}?",
        "Add {a} + {b}",
    ),
)
MINUS = Frames(
    train=(
        "{a} - {b}",
        "{a}-{b}",
        "{a} - {b} =",
        "{a}-{b}=",
        "{a} - {b} = ?",
        "{a} - {b}?",
        "What is {a} - {b}?",
        "What is {a}-{b}?",
        "What is {a} minus {b}?",
        "{a} minus {b}",
        "Subtract {b} from {a}.",
        "Please subtract {b} from {a}.",
        "Take {b} away from {a}.",
        "Compute {a} - {b}.",
        "Calculate {a}-{b}",
        "How much is {a} - {b}?",
        "How much is {a} minus {b}?",
        "Can you subtract {b} from {a}?",
        "What do you get when you subtract {b} from {a}?",
        "Please compute {a} minus {b}.",
        "Can you tell me what {a} - {b} is?",
        "Work out {a}-{b}.",
        "I have {a} coins and give away {b}. How many coins do I have?",
    ),
    test=(
        "Work out {a} minus {b}.",
        "Please tell me {a} - {b}.",
        "Can you compute {a} - {b}?",
        "Please calculate {a} - {b}",
        "How much is {a}-{b}?",
        "Please take {b} away from {a}.",
        "What do I get when I subtract {b} from {a}?",
        "What is left when I take {b} from {a}?",
    ),
)
TIMES = (
    "{a} * {b}",
    "{a} x {b}",
    "What is {a} times {b}?",
    "{a} times {b}",
    "What is {a} * {b}?",
    "Multiply {a} by {b}.",
    "Multiply {a} and {b}.",
    "How much is {a} times {b}?",
    "{a}*{b}",
)


def sample(rng: random.Random, split: Split) -> Exchange:
    """Draw one sum or difference; in training also small operands and one-digit products."""
    if split == "train" and rng.random() < 0.06:
        return _product(rng)
    low = 0 if split == "train" and rng.random() < 0.1 else 10
    a, b = draw_pair(rng, split, low, 99)
    return result(rng, split, a, b, "+" if rng.random() < 0.5 else "-")


def result(rng: random.Random, split: Split, a: int, b: int, operator: str) -> Exchange:
    """Ask for `a + b` or `a - b` in some wording; the answer repeats the operands."""
    frames = PLUS if operator == "+" else MINUS
    question = frames.pick(rng, split).format(a=a, b=b)
    value = a + b if operator == "+" else a - b
    return Exchange(
        task="arithmetic",
        question=question,
        answer=f"{a} {operator} {b} = {value}",
        word=str(value),
        fields=(("result", str(value)),),
    )


def _product(rng: random.Random) -> Exchange:
    a, b = rng.randint(0, 9), rng.randint(0, 9)
    return Exchange(
        task="multiplication",
        question=rng.choice(TIMES).format(a=a, b=b),
        answer=f"{a} x {b} = {a * b}",
        word=str(a * b),
    )
