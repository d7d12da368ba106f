"""One answer: streamed to the screen, counted, told in one line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol, final

from common.clock import Clock
from lepton.v1 import inference_pb2

__all__ = ["AnswerStats", "Asker", "EventStream", "stream_answer", "summary"]


class EventStream(Protocol):
    """One answer as it comes."""

    @property
    def trace_id(self) -> str: ...

    @property
    def request_id(self) -> str: ...

    def __aiter__(self) -> AsyncIterator[inference_pb2.Event]: ...

    async def cancel(self) -> None: ...


class Asker(Protocol):
    """Who gets answers: `cli.client`, or a bare connection (`cli.bench.connection`)."""

    def generate(
        self, request: inference_pb2.GenerateRequest, *, timeout_s: float | None = None
    ) -> EventStream: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerStats:
    """What came of one call."""

    texts: tuple[str, ...]
    """The text of each choice."""
    worker_id: str
    trace_id: str
    """Empty when the server told none."""
    request_id: str
    prompt_tokens: int
    completion_tokens: int
    first_s: float | None
    """From sending to the first token, seconds, as we saw it; None when there was none."""
    tokens_per_s: float | None
    """Tokens after the first by the time that they took; None for fewer than two."""
    took_s: float
    """From sending to the end, seconds."""


async def stream_answer(
    answer: EventStream,
    clock: Clock,
    *,
    on_text: Callable[[int, str], None] | None = None,
    on_event: Callable[[inference_pb2.Event], None] | None = None,
) -> AnswerStats:
    """Follows `answer` to its end; hands every piece of text (choice, text) and every event on as it comes.

    Raises `LeptonError`. Cancellation ends the call on the server.
    """
    tally = _Tally(clock)
    try:
        async for event in answer:
            tally.take(event)
            if on_event is not None:
                on_event(event)
            if on_text is not None and event.delta.text:
                on_text(event.delta.index, event.delta.text)
    finally:
        await answer.cancel()
    return tally.stats(answer)


def summary(stats: AnswerStats) -> str:
    """For example "23 tokens · first after 31 ms · 184 tokens/s · trace 4f1c0a9be2d7"."""
    parts = [f"{stats.completion_tokens} token{'s' * (stats.completion_tokens != 1)}"]
    if stats.first_s is not None:
        parts.append(f"first after {stats.first_s * 1e3:.0f} ms")
    if stats.tokens_per_s is not None:
        parts.append(f"{stats.tokens_per_s:.0f} tokens/s")
    if stats.worker_id:
        parts.append(f"from {stats.worker_id}")
    if stats.trace_id:
        parts.append(f"trace {stats.trace_id[:12]}")
    return " · ".join(parts)


@final
class _Tally:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.now()
        self._first: float | None = None
        self._last = self._began
        self._first_tokens = 0
        self._texts: dict[int, list[str]] = {}
        self._worker_id = ""
        self._finished = inference_pb2.Finished()

    def take(self, event: inference_pb2.Event) -> None:
        kind = event.WhichOneof("kind")
        if kind == "started":
            self._worker_id = event.started.worker_id
        elif kind == "migrated":
            self._worker_id = event.migrated.to_worker_id
        elif kind == "delta":
            self._last = self._clock.now()
            if self._first is None:
                self._first = self._last
                self._first_tokens = len(event.delta.token_ids) or 1
            self._texts.setdefault(event.delta.index, []).append(event.delta.text)
        elif kind == "finished":
            self._finished = event.finished

    def stats(self, answer: EventStream) -> AnswerStats:
        usage = self._finished.usage
        return AnswerStats(
            texts=tuple("".join(self._texts[index]) for index in sorted(self._texts)),
            worker_id=self._worker_id,
            trace_id=answer.trace_id,
            request_id=answer.request_id,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            first_s=None if self._first is None else self._first - self._began,
            tokens_per_s=self._speed(),
            took_s=self._clock.now() - self._began,
        )

    def _speed(self) -> float | None:
        """By the worker's own time: several messages may reach us at once, above all in short answers."""
        tokens = self._finished.usage.completion_tokens
        decode_s = self._finished.timings.decode_us / 1e6
        if decode_s and tokens > 1:
            return (tokens - 1) / decode_s
        if self._first is not None and self._last > self._first and tokens > self._first_tokens:
            return (tokens - self._first_tokens) / (self._last - self._first)
        return None
