"""From a request to its sequences: does it fit into the cache, and how does each choice begin? Pure."""

from __future__ import annotations

from collections.abc import Iterator

from common.errors import InvalidRequest, Reason
from worker.engine.ports import CacheLayout
from worker.engine.request import EngineRequest
from worker.engine.sequence import Sequence

__all__ = ["check_fits", "sequences_of"]


def check_fits(request: EngineRequest, layout: CacheLayout) -> None:
    """Raises `InvalidRequest` for what the engine cannot compute; the edge has checked it, with better messages."""
    max_tokens = request.stop.max_tokens
    if not request.prompt_ids or not request.choices or max_tokens < 1:
        raise InvalidRequest("a request needs a prompt, a choice and max_tokens of at least 1")
    num_tokens = len(request.prompt_ids) + max_tokens
    if num_tokens > layout.capacity:
        raise InvalidRequest(
            f"prompt and max_tokens are {num_tokens} tokens together; the context has {layout.capacity}",
            reason=Reason.PROMPT_TOO_LONG,
        )
    for known_ids in (request.known_ids or {}).values():
        if len(known_ids) >= max_tokens:
            raise InvalidRequest(
                f"{len(known_ids)} tokens are known, which leaves nothing of max_tokens ({max_tokens})",
                reason=Reason.FIELD_OUT_OF_RANGE,
            )


def sequences_of(
    request: EngineRequest, layout: CacheLayout, *, ids: Iterator[int], now: float
) -> tuple[Sequence, ...]:
    """One for each choice that is to be computed; `ids` gives each a number of its own."""
    choices, known_ids = request.choices, request.known_ids or {}
    numbers = [next(ids) for _ in choices]
    return tuple(
        Sequence(
            id=number,
            group=numbers[0],
            choice=choice,
            prompt_ids=request.prompt_ids,
            sampling=request.sampling,
            stop=request.stop,
            grammar=request.grammar,
            salt=request.salt,
            marks=request.marks,
            priority=request.priority,
            deadline=request.deadline,
            # Choices wait in order: while the first of them waits none has begun.
            start_by=None if choice or request.is_continued else request.start_by,
            arrived_at=now,
            is_continued=request.is_continued,
            known_ids=known_ids.get(choice, ()),
            known_with_prompt=layout.keeps_decoded,
        )
        for number, choice in zip(numbers, choices, strict=True)
    )
