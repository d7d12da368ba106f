"""What is asked, and when: everything is drawn from the seed, request by request.

Request i of a seed is the same whoever sends it, in whatever order, and however fast the answers come.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cli.bench.lengths import Lengths
from cli.request import chat_message
from lepton.v1 import types_pb2

__all__ = ["PROMPTS", "Ask", "Workload", "poisson_arrivals"]

PROMPTS: Final = (
    "What is Lepton?",
    "What is 17 + 25?",
    "What does the router do?",
    "Is this sentence positive or negative: The food was wonderful.",
    "What does etcd do?",
    "What is 64 - 28?",
)
"""Asked in turn when nothing else is said."""

_CANCEL_TOKENS_MAX: Final = 8
"""A client that goes away does so after 1 to that many tokens."""

Prompt = str | list[types_pb2.ChatMessage] | types_pb2.TokenIds


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request."""

    prompt: Prompt
    max_tokens: int
    cancel_after: int | None = None
    """Tokens after which the client goes away; None: it stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Texts asked in turn, or, with `prompt_tokens`, token ids of drawn lengths."""

    seed: int = 0
    texts: Sequence[str] = PROMPTS
    raw: bool = False
    """Texts are continued as they are, without chat template."""
    prompt_tokens: Lengths | None = None
    """Length of each prompt, its shared beginning not counted."""
    shared_prefix_tokens: int = 0
    """Tokens with which prompts of one group begin alike. Needs `vocabulary`, as `prompt_tokens` does."""
    prefix_groups: int = 1
    """How many such beginnings there are; requests choose one at random."""
    vocabulary: Sequence[int] = ()
    """Ordinary token ids to draw prompts from."""
    max_tokens: int = 64
    output_tokens: Lengths | None = None
    """Instead of `max_tokens`: a length for each answer."""
    cancel_share: float = 0.0
    """Share of the requests whose client goes away after some tokens, 0 to 1."""

    def ask(self, index: int) -> Ask:
        """Request number `index`, from 0."""
        rng = random.Random(f"{self.seed} request {index}")
        prompt = self._prompt(index, rng)
        output = self.output_tokens
        gone = rng.random() < self.cancel_share
        cancel_after = rng.randint(1, _CANCEL_TOKENS_MAX)
        return Ask(
            prompt=prompt,
            max_tokens=self.max_tokens if output is None else output.draw(rng),
            cancel_after=cancel_after if gone else None,
        )

    def _prompt(self, index: int, rng: random.Random) -> Prompt:
        if self.prompt_tokens is not None:
            group = rng.randrange(self.prefix_groups)
            shared = random.Random(f"{self.seed} prefix {group}")
            ids = shared.choices(self.vocabulary, k=self.shared_prefix_tokens)
            ids += rng.choices(self.vocabulary, k=self.prompt_tokens.draw(rng))
            return types_pb2.TokenIds(ids=ids)
        text = self.texts[index % len(self.texts)]
        return text if self.raw else [chat_message("user", text)]


def poisson_arrivals(rate: float, *, seed: int) -> Iterator[float]:
    """Seconds after the begin at which requests arrive, without end: gaps are exponential with mean 1 / `rate`."""
    rng, at = random.Random(f"{seed} arrivals"), 0.0
    while True:
        at += rng.expovariate(rate)
        yield at
