"""What is asked, when and by whom: a pure function of its seed.

Chats share system prompts (a few of them are popular: Zipf), and every turn of a chat begins with all that was said
before. Arrivals are Poisson, with bursts: what real front ends see.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

__all__ = ["BLOCK_TOKENS", "Ask", "TraceShape", "make_trace"]

BLOCK_TOKENS: Final = 128
"""Tokens that one prefix hash stands for."""
_SYSTEM_PROMPTS: Final = 24
_BURST_ASKS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request."""

    index: int
    at: float
    """Arrival, seconds."""
    session: int
    prefix: tuple[int, ...]
    """A hash per block of `BLOCK_TOKENS` prompt tokens; each stands for its block and all before it."""
    prompt_tokens: int
    answer_tokens: int
    deadline_s: float
    priority: int
    caller: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceShape:
    """How much of what."""

    asks: int
    per_s: float
    """Arrivals per second, on average."""
    turns_max: int = 4
    answer_tokens_mean: int = 48
    deadline_s: float = 60.0
    callers: int = 5


def make_trace(shape: TraceShape, random: Random) -> tuple[Ask, ...]:
    """`shape.asks` requests in order of arrival."""
    chats: list[_Chat] = []
    asks: list[Ask] = []
    for index, at in enumerate(_arrivals(shape, random)):
        if chats and random.random() < 0.6:  # a turn of somebody who is there
            at_chat = random.randrange(len(chats))
            chat = chats[at_chat]
        else:
            at_chat, chat = len(chats), _Chat.begin(len(asks), random)
            chats.append(chat)
        chat.say(random)
        answer = min(400, max(4, round(random.lognormvariate(0, 0.6) * shape.answer_tokens_mean)))
        asks.append(
            Ask(
                index=index,
                at=at,
                session=chat.session,
                prefix=chat.prefix(),
                prompt_tokens=chat.tokens,
                answer_tokens=answer,
                deadline_s=shape.deadline_s,
                priority=random.choices((-1, 0, 1), (2, 7, 1))[0],
                caller=f"caller-{random.randrange(shape.callers)}",
            )
        )
        chat.tokens += answer
        chat.turns += 1
        if chat.turns >= shape.turns_max:
            chats.pop(at_chat)
    return tuple(asks)


def _arrivals(shape: TraceShape, random: Random) -> Iterator[float]:
    at, left = 0.0, 0
    for _ in range(shape.asks):
        if left:
            left -= 1
        else:
            at += random.expovariate(shape.per_s)
            if random.random() < 0.01:  # many at once
                left = _BURST_ASKS
                at += _BURST_ASKS / shape.per_s
        yield at


@dataclass(slots=True)
class _Chat:
    session: int
    system: int
    system_tokens: int
    tokens: int
    turns: int = 0

    @staticmethod
    def begin(session: int, random: Random) -> _Chat:
        system = min(_SYSTEM_PROMPTS - 1, int(random.paretovariate(0.9)) - 1)
        tokens = BLOCK_TOKENS * (1 + system % 6)
        return _Chat(session, system, tokens, tokens)

    def say(self, random: Random) -> None:
        self.tokens += random.randint(8, 200)

    def prefix(self) -> tuple[int, ...]:
        """Blocks of the system prompt are everybody's, the others this chat's own."""
        shared = self.system_tokens // BLOCK_TOKENS
        return tuple(
            hash((self.system, block) if block < shared else (self.system, self.session, block))
            for block in range(self.tokens // BLOCK_TOKENS)
        )
