"""One generation inside the engine: a prompt, the tokens so far, where it stands.

    WAITING ──> PREFILLING ──> RUNNING ──> FINISHED
       │  ^         │            │ │         ^
       │  └─────────┼──put_back──┘ │         │
       └────────────┴──────────────┴─────────┘        (abort, deadline, failure)

A request with n choices is n sequences; the prompt is computed by one of them. `num_computed_tokens` counts the tokens
whose keys and values are in the cache.

A sequence that goes on with another worker's stream, or after it gave up its row, begins with `known_ids`. They are
computed so that they have, to the bit, the keys and values that they had before, and told to nobody:

    prefill_ids  │ prompt            │ known │          known_with_prompt: decoded tokens are kept as a prompt's are
                 │ prompt            │                  otherwise known ids are decoded one by one, as they were there;
                                                       each is drawn again, and what was drawn does not count
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from worker.engine.grammar import Grammar
from worker.engine.sampling_params import SamplingParams

__all__ = ["FinishReason", "Sequence", "SequenceState", "StopRule"]


class SequenceState(Enum):
    """Which resources a sequence holds: a slot from PREFILLING to the end of RUNNING, nothing otherwise."""

    WAITING = auto()
    PREFILLING = auto()
    RUNNING = auto()
    FINISHED = auto()


class FinishReason(Enum):
    """Why a sequence ended by itself; aborts and failures are other events."""

    STOP = auto()
    LENGTH = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRule:
    """When the engine ends a sequence. Stop strings need text and are matched in `worker.tasks`, which aborts."""

    max_tokens: int
    """Most completion tokens; prompt + max_tokens never exceeds the context."""
    min_tokens: int = 0
    """No end by eos or stop id before that many completion tokens (eos and stop ids are masked)."""
    eos_ids: frozenset[int] = frozenset()
    """The model's own end tokens (empty with ignore_eos)."""
    stop_ids: frozenset[int] = frozenset()
    """The request's stop token ids."""


@dataclass(slots=True, kw_only=True, eq=False)
class Sequence:
    """Owned by the engine thread from `EngineLoop.submit` on; compared by identity."""

    id: int
    """Unique in this process; made by the engine, never by a caller."""
    choice: int
    """Index within the request."""
    prompt_ids: tuple[int, ...]
    sampling: SamplingParams
    stop: StopRule
    grammar: Grammar | None = field(default=None, repr=False)
    """What the completion must follow; None: nothing."""
    salt: bytes | None = b""
    """Shares beginnings with prompts of the same salt; None shares nothing."""
    marks: tuple[tuple[int, int], ...] = field(default=(), repr=False)
    """(number of prompt tokens, hash by which routers know that beginning), shortest first."""
    priority: int = 0
    """Higher goes first."""
    deadline: float | None = None
    """On the engine's clock, seconds."""
    start_by: float | None = None
    """On the engine's clock, seconds: refused when it still waits then."""
    arrived_at: float = 0.0
    """On the engine's clock, seconds."""
    scheduled_at: float | None = None
    """When it got its slot; None for one that never computed anything."""
    state: SequenceState = SequenceState.WAITING
    slot: int | None = None
    """Row in the KV slab."""
    num_computed_tokens: int = 0
    num_cached_tokens: int = 0
    """Of the prompt, how many came from the prefix cache."""
    is_continued: bool = False
    """Whether another worker began it: it goes before all that only begin here."""
    known_ids: tuple[int, ...] = ()
    """How the completion begins; each below the vocabulary size, none of them ends it, fewer than max_tokens."""
    known_with_prompt: bool = False
    """Whether they are computed together with the prompt (`worker.engine.ports.CacheLayout.keeps_decoded`)."""
    num_replay_mismatches: int = 0
    """Known ids instead of which another one was drawn."""
    num_preemptions: int = 0
    """How many times it gave up its row (`worker.engine.preemption`)."""
    group: int | None = None
    """Sequences of one request have the same number, and the same prompt; None belongs to nobody."""
    leader: Sequence | None = field(default=None, repr=False)
    """While prefilling: who computes the prompt of both; the row is copied when it is complete."""
    followers: list[Sequence] = field(default_factory=list, repr=False)
    """The other side of `leader`, by slot."""
    block_keys: tuple[bytes, ...] = ()
    """Of its full blocks (`worker.engine.prefix`), as far as anybody asked; empty when it shares nothing."""
    prefill_ids: tuple[int, ...] = field(init=False, repr=False)
    """What is computed in chunks, before anything is drawn."""
    generated_ids: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._begin_with_known()

    def put_back(self, now: float) -> None:
        """Its row goes to another one while it runs: it waits again, and will go on behind the tokens that it has.

        Not while known tokens are computed. From here on it neither has to begin by some time nor has waited so far.
        """
        self.known_ids = tuple(self.generated_ids)
        self.generated_ids.clear()
        self._begin_with_known()
        self.state = SequenceState.WAITING
        self.num_computed_tokens = self.num_cached_tokens = 0
        self.block_keys = ()
        self.arrived_at, self.scheduled_at, self.start_by = now, None, None
        self.num_preemptions += 1

    def leave_group(self) -> None:
        """It ends: the first of those who followed computes the prompt now, from its beginning, for the others, too."""
        if self.leader is not None:
            self.leader.followers.remove(self)
            self.leader = None
        if self.followers:
            heir, *others = self.followers
            self.followers.clear()
            heir.leader, heir.num_cached_tokens = None, 0
            heir.followers = others
            for follower in others:
                follower.leader = heir

    def _begin_with_known(self) -> None:
        self.prefill_ids = self.prompt_ids
        if self.known_with_prompt:
            self.prefill_ids += self.known_ids
            self.generated_ids += self.known_ids

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.prompt_ids)

    @property
    def num_prefill_tokens(self) -> int:
        return len(self.prefill_ids)

    @property
    def next_known_id(self) -> int | None:
        """What the next token is, whatever is drawn; None once all that is known is there."""
        at = len(self.generated_ids)
        return self.known_ids[at] if at < len(self.known_ids) else None

    @property
    def num_tokens_max(self) -> int:
        """Prompt and completion at the most."""
        return len(self.prompt_ids) + self.stop.max_tokens

    @property
    def num_tokens(self) -> int:
        """Prompt and completion so far."""
        return len(self.prompt_ids) + len(self.generated_ids)
