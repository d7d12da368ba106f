"""One request under load, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cli.answer import Asker
from common.clock import Clock
from common.errors import LeptonError
from lepton.v1 import inference_pb2

__all__ = ["Sample", "measure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One request. Times are seconds on the clock of the run."""

    planned_s: float
    """When it should have left: latencies count from here, so that a late sender cannot hide a slow server. A caller
    that waits for its last answer (closed loop) plans nothing: it is when it left."""
    began_s: float
    """When it left."""
    ended_s: float
    first_at_s: float | None
    """When its first token came; None when none did."""
    gaps_s: tuple[float, ...] = ()
    """Between messages that carry tokens (ITL)."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cancelled: bool = False
    """The client went away on purpose, as the workload asked."""
    error: str = ""
    """Reason; empty: it worked."""
    failure: LeptonError | None = None
    """What the server said of it, where it was the server who did."""

    @property
    def first_s(self) -> float | None:
        """Time to the first token (TTFT), from the planned time on."""
        return None if self.first_at_s is None else self.first_at_s - self.planned_s

    @property
    def late_s(self) -> float:
        """How much later it left than planned."""
        return self.began_s - self.planned_s

    @property
    def took_s(self) -> float:
        """From the planned time to the end (E2EL)."""
        return self.ended_s - self.planned_s

    @property
    def per_token_s(self) -> float | None:
        """Time per token after the first (TPOT); None for fewer than two tokens."""
        if self.first_at_s is None or self.completion_tokens < 2:
            return None
        return (self.ended_s - self.first_at_s) / (self.completion_tokens - 1)


async def measure(
    client: Asker,
    request: inference_pb2.GenerateRequest,
    clock: Clock,
    *,
    timeout_s: float,
    planned_s: float | None = None,
    cancel_after: int | None = None,
    on_tokens: Callable[[int], None] = lambda _: None,
) -> Sample:
    """Sends one request and follows it to its end, or until `cancel_after` tokens. Errors become part of the sample."""
    began = clock.now()
    first: float | None = None
    last, seen = began, 0
    gaps: list[float] = []
    finished = inference_pb2.Finished()
    prompt_tokens = 0
    failed: LeptonError | None = None
    cancelled = False
    answer = client.generate(request, timeout_s=timeout_s)
    try:
        async for event in answer:
            if event.HasField("started"):
                prompt_tokens = event.started.prompt_tokens
            elif event.HasField("finished"):
                finished = event.finished
            elif event.delta.token_ids:
                now = clock.now()
                if first is None:
                    first = now
                elif now > last:
                    # Events that came in one message have no gap between them.
                    gaps.append(now - last)
                last = now
                seen += len(event.delta.token_ids)
                on_tokens(len(event.delta.token_ids))
                if cancel_after is not None and seen >= cancel_after:
                    cancelled = True
                    break
    except LeptonError as error:
        failed = error
    finally:
        await answer.cancel()
    return Sample(
        planned_s=began if planned_s is None else planned_s,
        began_s=began,
        ended_s=clock.now(),
        first_at_s=first,
        gaps_s=tuple(gaps),
        prompt_tokens=finished.usage.prompt_tokens or prompt_tokens,
        completion_tokens=finished.usage.completion_tokens or seen,
        cancelled=cancelled,
        error=failed.reason.value if failed else "",
        failure=failed,
    )
