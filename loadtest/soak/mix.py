"""Random requests of every kind that a client may send, good and bad, and what may become of each."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from common.errors import Reason
from lepton.v1 import inference_pb2, types_pb2

__all__ = ["Wish", "constrained_wish", "random_wish"]

_FULL: Final = frozenset(
    {Reason.QUEUE_FULL, Reason.CALLER_QUEUE_FULL, Reason.QUEUE_TIMEOUT, Reason.WOULD_BE_LATE}
)
_WORDS: Final = (
    "what",
    "is",
    "the",
    "router",
    "12 + 30",
    "naïve",
    "漢字",
    "🙂",
    "positive",
    "and",
    "a list of",
    "\n",
)
_BEGINNINGS: Final = tuple(
    " ".join(f"{word} {at}" for at in range(12)) for word in ("once", "twice", "thrice")
)
_PATTERNS: Final = ("[a-z ]{1,20}", "(yes|no)", "[0-9]+")
_ROLES: Final = (types_pb2.ROLE_USER, types_pb2.ROLE_ASSISTANT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One call."""

    request: inference_pb2.GenerateRequest
    timeout_s: float
    cancel_after: int | None
    """Events after which the caller goes away; None: it stays."""
    may_fail: frozenset[Reason]
    """Reasons with which the call may end; empty: it must be answered."""
    must_fail: bool = False


def constrained_wish() -> Wish:
    """A call whose answer must follow a pattern."""
    return Wish(
        request=inference_pb2.GenerateRequest(
            text="say yes",
            sampling=types_pb2.SamplingParams(n=1),
            stop=types_pb2.StopConditions(max_tokens=4),
            constraint=types_pb2.Constraint(regex=_PATTERNS[0]),
        ),
        timeout_s=60.0,
        cancel_after=None,
        may_fail=frozenset(),
    )


def random_wish(rng: random.Random) -> Wish:
    """Most are in order; one in eight is not, one in eight has little time, one in eight goes away."""
    request = _request(rng)
    kind = rng.randrange(8)
    if kind == 0:
        return _broken(rng, request)
    timeout_s, may_fail = 60.0, _FULL
    if kind == 1:
        timeout_s = rng.choice((0.005, 0.05, 0.2))
        may_fail |= {Reason.DEADLINE_EXCEEDED}
    return Wish(
        request=request,
        timeout_s=timeout_s,
        cancel_after=rng.randint(0, 6) if kind == 2 else None,
        may_fail=may_fail,
    )


def _request(rng: random.Random) -> inference_pb2.GenerateRequest:
    request = inference_pb2.GenerateRequest(
        sampling=types_pb2.SamplingParams(
            temperature=rng.choice((0.0, 0.0, 0.8, 1.3)),
            top_p=rng.choice((1.0, 0.9)),
            top_k=rng.choice((0, 20)),
            repetition_penalty=rng.choice((1.0, 1.1)),
            n=rng.choice((1, 1, 1, 2, 4)),
        ),
        stop=types_pb2.StopConditions(
            max_tokens=rng.randint(1, 24),
            strings=rng.sample(("e", "the", "12", "\n\n", "never there"), rng.randint(0, 2)),
            ignore_eos=rng.random() < 0.3,
        ),
        cache=types_pb2.CacheControl(
            bypass=rng.random() < 0.1, salt=rng.choice(("", "", "a", "b"))
        ),
        priority=rng.choice((types_pb2.PRIORITY_LOW, types_pb2.PRIORITY_NORMAL, types_pb2.PRIORITY_HIGH)),
    )  # fmt: skip
    if rng.random() < 0.5:
        request.sampling.seed = rng.getrandbits(64)
    if rng.random() < 0.2:
        request.output.logprobs = rng.randint(0, 5)
    if rng.random() < 0.1:
        request.service_level.queue_timeout_ms = rng.choice((0, 50, 1000))
    if rng.random() < 0.1:
        request.constraint.regex, request.stop.ignore_eos = rng.choice(_PATTERNS), False
    text = rng.choice((*_BEGINNINGS, "")) + " ".join(rng.choices(_WORDS, k=rng.randint(1, 6)))
    form = rng.randrange(3)
    if form == 0:
        request.text = text
    elif form == 1:
        request.token_ids.ids.extend(rng.randrange(10, 256) for _ in range(rng.randint(1, 80)))
    else:
        turns = rng.choice((1, 1, 3))
        for at in range(turns):
            content = text if turns == 1 else text[:40]
            request.chat.messages.add(role=_ROLES[at % 2], content=content)
    return request


def _broken(rng: random.Random, request: inference_pb2.GenerateRequest) -> Wish:
    """Something that must be refused, whatever else is in it."""
    kind = rng.randrange(5)
    if kind == 0:
        request.sampling.temperature = -1.0
        reason = Reason.FIELD_OUT_OF_RANGE
    elif kind == 1:
        request.token_ids.ids.append(1 << 30)
        reason = Reason.TOKEN_ID_OUT_OF_RANGE
    elif kind == 2:
        request.text = "too long " * 2_000
        reason = Reason.PROMPT_TOO_LONG
    elif kind == 3:
        request.model = "nobody"
        reason = Reason.MODEL_NOT_FOUND
    else:
        request.constraint.regex = "("
        request.stop.ignore_eos = False
        reason = Reason.GRAMMAR_INVALID
    return Wish(
        request=request,
        timeout_s=60.0,
        cancel_after=None,
        may_fail=_FULL | {reason},
        must_fail=True,
    )
