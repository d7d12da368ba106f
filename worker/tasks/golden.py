"""Before a worker serves it answers a question whose answer is known; that also warms everything up."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from common.clock import Clock
from common.errors import BadModel, LeptonError, Reason
from worker.engine.sampling_params import SamplingParams
from worker.tasks.api import GenerateRequest, Piece, Prompt, Task, Timeline, TokenPrompt

__all__ = ["GoldenAnswer", "check_golden"]

_ANSWER_S_MAX: Final = 120.0
"""Longest that the first answer may take, seconds: a model that is slower than that serves nobody."""

_WARM_UP_TOKENS: Final = 2
_SHOWN_CHARS: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenAnswer:
    """A prompt and its greedy answer."""

    prompt: Prompt
    text: str
    """The whole answer, without its end token."""
    max_tokens: int


async def check_golden(task: Task, golden: GoldenAnswer | None, clock: Clock) -> None:
    """Asks for the golden answer; without one, for any two tokens, which proves that the model runs.

    Raises `BadModel(MODEL_GOLDEN_MISMATCH)` when the answer is another one or does not come.
    """
    if golden is None:
        await _answer(task, TokenPrompt((0, 0)), _WARM_UP_TOKENS, clock)
        return
    text = await _answer(task, golden.prompt, golden.max_tokens, clock)
    if text != golden.text:
        raise BadModel(
            f"golden.json: the model answers {text[:_SHOWN_CHARS]!r} "
            f"where {golden.text[:_SHOWN_CHARS]!r} is right: weights, runtime or provider are not what they should be",
            reason=Reason.MODEL_GOLDEN_MISMATCH,
        )


async def _answer(task: Task, prompt: Prompt, max_tokens: int, clock: Clock) -> str:
    now = clock.now()
    request = GenerateRequest(
        request_id="golden",
        prompt=prompt,
        sampling=SamplingParams(),
        n=1,
        max_tokens=max_tokens,
        max_tokens_default=max_tokens,
        min_tokens=0,
        stop_strings=(),
        stop_ids=frozenset(),
        ignore_eos=False,
        priority=0,
        arrived_at=now,
        deadline=now + _ANSWER_S_MAX,
    )
    text = ""
    try:
        async with aclosing(task.run(request, Timeline(arrived_at=now))) as batches:
            async for outputs in batches:
                text += "".join(o.text for o in outputs if isinstance(o, Piece))
    except LeptonError as error:
        raise BadModel(
            f"the model cannot answer its first prompt: {error.message}",
            reason=Reason.MODEL_GOLDEN_MISMATCH,
        ) from error
    return text
