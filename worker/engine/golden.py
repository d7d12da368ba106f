"""A question whose answer is known, put to the running engine: does it still compute what it did at the start?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from worker.engine.events import FailedEvent, TokenEvent
from worker.engine.loop import EngineLoop
from worker.engine.request import EngineRequest
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import StopRule

__all__ = ["ANY_ANSWER", "GoldenQuestion", "ask"]

_PRIORITY: Final = 1 << 16
"""Before all requests: whoever probes wants to know whether the engine works, not how long its queue is."""


@dataclass(frozen=True, slots=True)
class GoldenQuestion:
    """A prompt, and the greedy tokens that the warm model gave to it."""

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...] = ()
    """Empty: any token will do."""


ANY_ANSWER: Final = GoldenQuestion(prompt_ids=(1, 2, 3, 4))
"""For a runner of which nothing is known but that it has more than four ids."""


async def ask(engine: EngineLoop, question: GoldenQuestion, *, deadline: float) -> bool:
    """Whether the engine gives the known answer before `deadline` (on its clock); its beginnings are not kept.

    Errors: those of `EngineLoop.submit` (full, draining, crashed) and `DeadlineExceeded`. A step that fails is a wrong
    answer. Cancellation: stops the compute within a step.
    """
    stream = engine.submit(
        EngineRequest(
            prompt_ids=question.prompt_ids,
            sampling=SamplingParams(),
            stop=StopRule(max_tokens=max(1, len(question.answer_ids))),
            salt=None,
            priority=_PRIORITY,
            deadline=deadline,
        )
    )
    answer: list[int] = []
    try:
        while events := await stream.next():
            for event in events:
                if isinstance(event, TokenEvent):
                    answer.append(event.token_id)
                elif isinstance(event, FailedEvent):
                    if event.error.retryable:
                        return False
                    raise event.error
    finally:
        engine.abort(stream)
    return tuple(answer) == question.answer_ids if question.answer_ids else bool(answer)
