"""One request under load, and what is kept of it."""

from __future__ import annotations

from dataclasses import dataclass

from cli.client import Client
from common.clock import Clock
from common.errors import LeptonError
from lepton.v1 import inference_pb2

__all__ = ["Sample", "measure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One request. Times are seconds as the client saw them."""

    began_s: float
    """On the clock of the run."""
    ended_s: float
    first_s: float | None
    """Time to the first token (TTFT); None when there was none."""
    gaps_s: tuple[float, ...]
    """Between messages that carry tokens (ITL)."""
    prompt_tokens: int
    completion_tokens: int
    error: str = ""
    """Reason; empty: it worked."""

    @property
    def took_s(self) -> float:
        """From sending to the end (E2EL)."""
        return self.ended_s - self.began_s

    @property
    def per_token_s(self) -> float | None:
        """Time per token after the first (TPOT); None for fewer than two tokens."""
        if self.first_s is None or self.completion_tokens < 2:
            return None
        return (self.took_s - self.first_s) / (self.completion_tokens - 1)


async def measure(
    client: Client, request: inference_pb2.GenerateRequest, clock: Clock, *, timeout_s: float
) -> Sample:
    """Sends one request and follows it to its end. Errors become part of the sample."""
    began = clock.now()
    first: float | None = None
    last = began
    gaps: list[float] = []
    finished = inference_pb2.Finished()
    error = ""
    answer = client.generate(request, timeout_s=timeout_s)
    try:
        async for event in answer:
            if event.HasField("finished"):
                finished = event.finished
            elif event.delta.token_ids:
                now = clock.now()
                if first is None:
                    first = now
                elif now > last:
                    # Events that came in one message have no gap between them.
                    gaps.append(now - last)
                last = now
    except LeptonError as failure:
        error = failure.reason.value
    finally:
        answer.cancel()
    return Sample(
        began_s=began,
        ended_s=clock.now(),
        first_s=None if first is None else first - began,
        gaps_s=tuple(gaps),
        prompt_tokens=finished.usage.prompt_tokens,
        completion_tokens=finished.usage.completion_tokens,
        error=error,
    )
