"""One question with its one right answer."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What a user asks and what the model has to answer, word for word."""

    task: str
    """The task that the exchange belongs to, e.g. `arithmetic`."""
    question: str
    answer: str
    word: str | None = None
    """The answer in one word, where it has one: used under 'Answer with one word only.'"""
    fields: tuple[tuple[str, str], ...] = ()
    """What a second turn may ask about: pairs of a field's name and its value as text."""
