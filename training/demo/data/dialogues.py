"""Chats of any length: a walk that knows what was said so far.

`walk` makes training chats without end, the caller takes as many turns as it has room for.
`second_turn` and `obeyed` make the two kinds of test dialogues, with one question to answer.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from training.demo.data import (
    arithmetic,
    echo,
    extraction,
    facts,
    follow_ups,
    sentiment,
    smalltalk,
    summary,
    system_prompts,
)
from training.demo.data.exchange import Exchange
from training.demo.data.splits import Split
from training.demo.data.system_prompts import SystemPrompt

Message = dict[str, str]
Sampler = Callable[[random.Random, Split], Exchange]

TASKS: dict[str, Sampler] = {
    "arithmetic": arithmetic.sample,
    "sentiment": sentiment.sample,
    "extraction": extraction.sample,
    "summary": summary.sample,
    "facts": facts.sample,
    "smalltalk": smalltalk.sample,
    "echo": echo.sample,
}
SHARES = {
    "arithmetic": 26,
    "sentiment": 16,
    "extraction": 38,
    "summary": 12,
    "facts": 10,
    "smalltalk": 7,
    "echo": 14,
}
COPYING_SHARES = SHARES | {"echo": 110, "extraction": 40, "arithmetic": 24}
"""At the beginning of training: most answers repeat what was asked."""
FOLLOW_UP_SHARE = 0.35
SYSTEM_SHARE = 0.45
ASKED_BACK_SHARE = 0.25
"""Of the turns of a chat whose system prompt names the model or the user, how many ask for that name."""
AFTER = {
    "arithmetic": follow_ups.calculate_on,
    "extraction": follow_ups.one_field,
    "summary": follow_ups.one_field,
    "sentiment": follow_ups.next_review,
    "facts": follow_ups.next_topic,
}


@dataclass(slots=True)
class Chat:
    """What was said so far: enough to ask about it."""

    system: SystemPrompt | None = None
    exchanges: list[Exchange] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)

    def add(self, exchange: Exchange) -> Exchange | None:
        """Put the answer into the system prompt's style and remember it; None if it has none."""
        answer = self.system.apply(exchange) if self.system else exchange.answer
        if answer is None:
            return None
        styled = replace(exchange, answer=answer)
        self.exchanges.append(styled)
        if styled.task == "memory":
            self.known.update(styled.fields)
        return styled

    def messages(self) -> list[Message]:
        """Give the chat as messages, the system prompt first."""
        told: list[Message] = []
        if self.system:
            told.append({"role": "system", "content": self.system.text})
        for exchange in self.exchanges:
            told.append({"role": "user", "content": exchange.question})
            told.append({"role": "assistant", "content": exchange.answer})
        return told


def walk(
    rng: random.Random, split: Split, shares: dict[str, int] = SHARES
) -> tuple[SystemPrompt | None, Iterator[Exchange]]:
    """Begin a chat: its system prompt, if it has one, and its endless exchanges."""
    chat = start(system_prompts.sample(rng, split) if rng.random() < SYSTEM_SHARE else None)
    return chat.system, _turns(rng, split, chat, shares)


def start(system: SystemPrompt | None) -> Chat:
    """Begin a chat that knows what its system prompt tells."""
    chat = Chat(system)
    if system and system.style == "user_name":
        chat.known["name"] = system.word
    return chat


def _turns(
    rng: random.Random, split: Split, chat: Chat, shares: dict[str, int]
) -> Iterator[Exchange]:
    while True:
        exchange = None
        if rng.random() < ASKED_BACK_SHARE:
            exchange = _asked_back(rng, split, chat)
        elif rng.random() < FOLLOW_UP_SHARE:
            exchange = _follow_up(rng, split, chat)
        if exchange is None:
            exchange = _independent(rng, split, shares)
        if styled := chat.add(exchange):
            yield styled


def _independent(rng: random.Random, split: Split, shares: dict[str, int] = SHARES) -> Exchange:
    (task,) = rng.choices(tuple(shares), tuple(shares.values()))
    return TASKS[task](rng, split)


def _asked_back(rng: random.Random, split: Split, chat: Chat) -> Exchange | None:
    """Ask for what the system prompt told about a name, where it told one."""
    match chat.system.style if chat.system else None:
        case "persona":
            return _who_are_you(rng, split)
        case "user_name":
            return follow_ups.recall_name(rng, split, chat.known["name"])
        case _:
            return None


def _follow_up(rng: random.Random, split: Split, chat: Chat) -> Exchange | None:
    """Draw a turn that rests on an earlier one, where the chat has one that fits."""
    roll = rng.random()
    if roll < 0.30 or not chat.exchanges:
        return _memory(rng, split, chat)
    last = chat.exchanges[-1]
    if roll < 0.72:
        return AFTER[last.task](rng, split, last) if last.task in AFTER else None
    if roll < 0.84:
        return _again(rng, split, chat)
    return _first(rng, split, chat)


def _memory(rng: random.Random, split: Split, chat: Chat) -> Exchange:
    kind = rng.choice(("name", "name", "city"))
    tell, ask = {
        "name": (follow_ups.introduce, follow_ups.recall_name),
        "city": (follow_ups.settle, follow_ups.recall_city),
    }[kind]
    if rng.random() < (0.3 if kind in chat.known else 0.7):
        return tell(rng, split)
    return ask(rng, split, chat.known.get(kind))


def _again(rng: random.Random, split: Split, chat: Chat) -> Exchange:
    """Ask for the last answer; the style is taken off, because `Chat.add` puts it on again."""
    last = chat.exchanges[-1]
    given = last.answer
    if chat.system and chat.system.style == "prefix":
        given = given.removeprefix(f"{chat.system.word}: ")
    if chat.system and chat.system.style == "suffix":
        given = given.removesuffix(f" {chat.system.word}")
    return replace(follow_ups.again(rng, split, given, last), fields=())


def _first(rng: random.Random, split: Split, chat: Chat) -> Exchange | None:
    if len(chat.exchanges) < 2:
        return None
    return follow_ups.first_question(rng, split, chat.exchanges[0])


SECOND_TURNS = (
    "arithmetic",
    "extraction",
    "summary",
    "sentiment",
    "facts",
    "name",
    "city",
    "again",
    "first",
)


def second_turn(rng: random.Random, split: Split, kind: str) -> list[Message]:
    """Make a dialogue whose last question rests on an earlier turn; the last message is right.

    Memory and first-question dialogues have up to two other turns in between.
    """
    while True:
        chat = Chat()
        if kind in ("name", "city"):
            tell = follow_ups.introduce if kind == "name" else follow_ups.settle
            chat.add(tell(rng, split))
        else:
            chat.add(TASKS[kind](rng, split) if kind in TASKS else _independent(rng, split))
        if kind in ("name", "city", "first"):
            for _ in range(rng.randint(kind == "first", 2)):
                chat.add(_independent(rng, split))
        last = chat.exchanges[-1]
        match kind:
            case "name":
                question = follow_ups.recall_name(rng, split, chat.known["name"])
            case "city":
                question = follow_ups.recall_city(rng, split, chat.known["city"])
            case "again":
                question = _again(rng, split, chat)
            case "first":
                question = _first(rng, split, chat)
            case _:
                question = AFTER[kind](rng, split, last)
        if question and chat.add(question):
            return chat.messages()


OBEYED = ("plain", "upper", "one_word", "prefix", "suffix", "persona", "user_name")


def obeyed(rng: random.Random, split: Split, style: str) -> list[Message]:
    """Make a dialogue of one or two turns under a system prompt; the last message is right."""
    chat = start(system_prompts.sample(rng, split, style))
    turns = rng.randint(1, 2)
    while len(chat.exchanges) < turns:
        last = len(chat.exchanges) == turns - 1
        if last and style == "user_name":
            exchange = follow_ups.recall_name(rng, split, chat.known["name"])
        elif last and style == "persona":
            exchange = _who_are_you(rng, split)
        else:
            exchange = _independent(rng, split)
        chat.add(exchange)
    return chat.messages()


def _who_are_you(rng: random.Random, split: Split) -> Exchange:
    frames, word = smalltalk.TALK[smalltalk.SELF]
    question = frames.pick(rng, split)
    return Exchange(task="smalltalk", question=question, answer=smalltalk.SELF, word=word)
