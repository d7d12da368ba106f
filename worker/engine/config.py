"""Bounds and aims of the engine: frozen, complete, checked once."""

from __future__ import annotations

from dataclasses import dataclass

from worker.engine.chunking import CHUNK_TOKENS_MIN

__all__ = ["EngineConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Every bound of the engine. Raises ValueError when the values do not go together."""

    waiting_sequences_max: int = 256
    """Most sequences that wait for a slot; beyond it requests are refused with QUEUE_FULL."""
    waiting_tokens_max: int = 131_072
    """Most prompt tokens that wait; beyond it requests are refused with QUEUE_FULL."""
    overtaken_max: int = 8
    """How many times in a row a priority band may be passed over before it is served once."""
    chunk_tokens_max: int = 512
    """Most prompt tokens in one step, over all prompts."""
    chunk_tokens_min: int = 16
    """Prompts get the time of so many tokens at the beginning of a prompt, and at least four tokens, even when decoding
    alone is over `step_ms_max`, so that they always move; more when others wait (`chunk_patience_s`)."""
    chunk_tokens_first: int = 128
    """Most prompt tokens in a step while no speed has been measured yet."""
    chunk_stretch: float = 2.0
    """How many times as long as decoding alone a step may take because of prompts: what a long prompt costs the streams
    beside it."""
    chunk_patience_s: float = 0.5
    """How long a prompt may wait for its begin beside a free slot, seconds; beyond it `chunk_stretch` grows in
    proportion, up to `step_ms_max`. It also grows when many prompts wait so."""
    preemptions_max: int = 2
    """How many times a sequence may have to give up its row for one of a higher priority, and go on later; 0: never."""
    preempt_after_s: float = 0.2
    """How long the one of a higher priority waits before, seconds: a row may become free by itself."""
    step_ms_max: float = 100.0
    """Aim for the length of a step, milliseconds; aborts, deadlines and liveness rest on it."""
    retry_after_s_max: float = 30.0
    """Longest retry hint in a refusal, seconds."""
    prefix_digest_max: int = 4096
    """Most beginnings of prompts that are told to routers as cached."""
    lookup_streams_max: int = 4
    """Most decoding sequences beside which drafts are made (`worker.engine.drafter`)."""
    lookup_tokens_max: int = 8
    """Most tokens of a draft; 0: none are made."""
    lookup_ngram: int = 3
    """How many tokens must have been there before for those after them to be proposed."""
    rest_after_s: float = 10.0
    """After so many seconds without work the memory of rows goes back to the system."""
    linger_ms: float = 10.0
    """How long the next step may wait for an arrival after a stream of another worker has gone on, milliseconds. The
    router tries such streams one after another on each worker, and the next one would just miss the step."""
    first_token_ms: float = 2.0
    """How long the next step may wait while a first token is passed on, milliseconds; 0: not at all."""
    failed_steps_max: int = 3
    """Failed steps in a row after which the engine no longer calls itself healthy."""
    step_late_s_max: float = 60.0
    """A step that is so many seconds past its expected end is taken for stuck: the engine is not healthy."""
    stop_s_max: float = 10.0
    """Longest that `EngineLoop.stop` waits for the running step, seconds."""

    def __post_init__(self) -> None:
        for name in (
            "waiting_sequences_max",
            "waiting_tokens_max",
            "overtaken_max",
            "failed_steps_max",
            "lookup_ngram",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1")
        for name in ("linger_ms", "first_token_ms"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 0")
        for name in ("lookup_streams_max", "lookup_tokens_max"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 0")
        if self.preemptions_max < 0 or not self.preempt_after_s >= 0:
            raise ValueError(
                f"preemptions_max {self.preemptions_max}, preempt_after_s {self.preempt_after_s}; at least 0"
            )
        if not self.chunk_stretch > 1:
            raise ValueError(f"chunk_stretch is {self.chunk_stretch}; more than 1")
        for name in (
            "chunk_patience_s",
            "rest_after_s",
            "step_ms_max",
            "retry_after_s_max",
            "step_late_s_max",
            "stop_s_max",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; more than 0")
        if not CHUNK_TOKENS_MIN <= self.chunk_tokens_min <= self.chunk_tokens_max:
            raise ValueError(
                f"chunk_tokens_min is {self.chunk_tokens_min}; "
                f"from {CHUNK_TOKENS_MIN} to chunk_tokens_max ({self.chunk_tokens_max})"
            )
        if not self.chunk_tokens_min <= self.chunk_tokens_first <= self.chunk_tokens_max:
            raise ValueError(
                f"chunk_tokens_first is {self.chunk_tokens_first}; from chunk_tokens_min ({self.chunk_tokens_min}) "
                f"to chunk_tokens_max ({self.chunk_tokens_max})"
            )
