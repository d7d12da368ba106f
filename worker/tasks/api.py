"""What goes into a generation and what comes out of it: plain values, no proto, no arrays.

GenerateRequest ──> GenerateTask.run ──> Begun, Piece, Piece, …, Done          (or one LeptonError)
  with a Continuation                ──> Resumed, Piece, …, Done
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from common.request.prompt_prefix import NO_PREFIX, PromptPrefix
from worker.engine.grammar import Constraint
from worker.engine.ports import TopLogprob
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import FinishReason

__all__ = [
    "Begun",
    "ChatPrompt",
    "ChatTurn",
    "ChoiceEnd",
    "Continuation",
    "ContinuedChoice",
    "Done",
    "GenerateRequest",
    "ModelFacts",
    "Output",
    "Piece",
    "Prompt",
    "Resumed",
    "Task",
    "TextPrompt",
    "Timeline",
    "TokenLogprobs",
    "TokenPrompt",
    "Tool",
    "ToolCall",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What requests are checked against; discovered at load, never changed."""

    name: str
    """Name that requests use."""
    revision: str
    """Content hash of the model folder, hex."""
    context_length: int
    """Most tokens of prompt and completion together."""
    vocab_size: int
    """Valid token ids are below it."""
    eos_ids: frozenset[int]
    """Tokens by which the model says that it is done."""
    fingerprint: str
    """Engine: runtime version, provider, precision, instruction set, threads."""
    tool_format: str = ""
    """How the model writes calls of tools; empty when it knows no tools."""


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """Plain text, never read as control tokens."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that the model made earlier in the conversation."""

    id: str
    name: str
    arguments: Mapping[str, Any]
    """A JSON object, read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """What the model may call."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """JSON schema of the arguments, read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTurn:
    """One message of a conversation."""

    role: str
    """system, user, assistant or tool."""
    content: str
    name: str = ""
    """Name of the speaker or tool; empty when there is none."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Of an assistant's message."""
    tool_call_id: str = ""
    """Of a tool's message: the call that it answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPrompt:
    """A conversation, rendered by the model's chat template."""

    turns: tuple[ChatTurn, ...]
    add_generation_prompt: bool
    """Whether the template opens the assistant's turn."""
    tools: tuple[Tool, ...] = ()
    """What the model may call."""


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    """Token ids, each below the vocabulary size."""

    ids: tuple[int, ...]


Prompt = TextPrompt | ChatPrompt | TokenPrompt


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceEnd:
    """How one choice ended."""

    reason: FinishReason
    stop_string: str | None = None
    """What matched, when a stop string did."""
    stop_token_id: int | None = None
    """What matched, when a stop id of the request did (the model's own end tokens are not told)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuedChoice:
    """How far one choice came elsewhere."""

    token_ids: tuple[int, ...]
    """What the client has, text and all; each below the vocabulary size."""
    end: ChoiceEnd | None
    """None: it goes on here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """What another worker, which was given up, has already sent of the answer."""

    choices: tuple[ContinuedChoice, ...]
    """In choice order, one for each."""
    next_seq: int
    """The first event has this number."""
    attempt: int
    """1 for the first migration."""
    from_worker_id: str
    """Who was given up."""
    num_prompt_tokens: int
    num_cached_tokens: int
    """Of the prompt, as that worker counted."""

    @property
    def num_replayed_tokens(self) -> int:
        """Tokens of the completion that are computed again."""
        return sum(len(choice.token_ids) for choice in self.choices if choice.end is None)

    @property
    def has_ended(self) -> bool:
        """Whether nothing but `Done` is missing."""
        return all(choice.end is not None for choice in self.choices)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """One generation, checked against everything but the length of its prompt, which only the tokenizer knows."""

    request_id: str
    """For logs and traces only."""
    prompt: Prompt
    sampling: SamplingParams
    """With a seed: the caller's, or one that was chosen for it."""
    n: int
    """Number of choices."""
    max_tokens: int | None
    """As the caller said; None takes what the context leaves, at most `max_tokens_default`."""
    max_tokens_default: int
    min_tokens: int
    stop_strings: tuple[str, ...]
    stop_ids: frozenset[int]
    ignore_eos: bool
    salt: bytes | None
    """Beginnings of prompts are shared with requests of the same salt; None shares nothing."""
    priority: int
    """Higher goes first."""
    arrived_at: float
    """On the clock of the process, seconds."""
    deadline: float
    """On the same clock."""
    prefix: PromptPrefix = NO_PREFIX
    """How routers know the beginnings of the prompt; empty when it shares nothing."""
    constraint: Constraint | None = None
    """What every choice must follow; None: nothing."""
    start_by: float | None = None
    """On the same clock: refused when nothing of it has begun to compute by then; None waits until the deadline."""
    continuation: Continuation | None = None
    """What is not to be said again; None: nothing was said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprobs:
    """Log-probabilities of one position, raw distribution."""

    token_id: int
    logprob: float
    top: tuple[TopLogprob, ...]
    """The most likely tokens, best first; empty unless asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """First output, together with the first piece: the request has a worker and a token."""

    num_prompt_tokens: int
    num_cached_tokens: int
    """Of these, how many came from the prefix cache, for the first choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """First output of a continuation, together with the first piece."""

    from_worker_id: str
    num_replayed_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """More of one choice. The ids are those whose text is in `text` or has been released before, in order."""

    choice: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...]
    """One per id when asked for, else empty."""
    end: ChoiceEnd | None = None
    """Set in the last piece of the choice."""


@dataclass(slots=True, kw_only=True)
class Timeline:
    """When things happened to one request, seconds on the clock of the process; None: not (yet)."""

    arrived_at: float
    grammar_s: float | None = None
    """How long the constraint took from text to grammar; None when there is none."""
    grammar_was_known: bool = False
    """Whether that constraint had been tried out before."""
    tokenized_at: float | None = None
    submitted_at: float | None = None
    scheduled_at: float | None = None
    """First compute for any of its choices."""
    first_token_at: float | None = None
    last_token_at: float | None = None
    num_replay_mismatches: int = 0
    """Of a continuation: known tokens instead of which this worker would have drawn another one, as far as it asked."""
    token_gaps_s: list[float] = field(default_factory=list)
    """Times between two tokens of one choice; whoever measures takes them out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """Last output: all choices have ended."""

    num_prompt_tokens: int
    num_cached_tokens: int
    """As in `Begun`."""
    num_completion_tokens: int
    """Over all choices, end-of-sequence tokens included."""
    ends: tuple[ChoiceEnd, ...]
    """In choice order."""


Output = Begun | Resumed | Piece | Done


class Task(Protocol):
    """A way of turning a request into results."""

    def run(
        self, request: GenerateRequest, timeline: Timeline
    ) -> AsyncGenerator[tuple[Output, ...], None]:
        """Yields outputs as they come, everything that is there at once; fills in `timeline` on the way.

        Resources: what it holds of the engine is given back when the generator ends or is closed: close it.
        Errors: `LeptonError` instead of `Done`, never both. Cancellation: stops the compute within a step.
        """
        ...
