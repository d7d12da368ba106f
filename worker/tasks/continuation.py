"""Does what another worker began fit what would be done here? Pure.

Everything but the ids that the client has is computed again, so whatever would make this worker do something else must
be noticed before it goes on: a wrong answer looks like any other.
"""

from __future__ import annotations

from common.errors import InvalidRequest, Reason, Unsupported
from worker.engine.sequence import StopRule
from worker.tasks.api import Continuation, ContinuedChoice

__all__ = ["check_continuation", "known_ids_of"]


def check_continuation(
    continuation: Continuation, *, num_prompt_tokens: int, stop: StopRule
) -> None:
    """Returns when this worker can go on; the prompt has so many tokens here.

    Raises `Unsupported(CONTINUATION_UNSUPPORTED)` when the other worker counted another prompt, `InvalidRequest` when
    its choices have more tokens than they may have, or go on behind a token that ends them.
    """
    if continuation.num_prompt_tokens != num_prompt_tokens:
        raise Unsupported(
            f"the prompt has {num_prompt_tokens} tokens here, on the worker that began it had "
            f"{continuation.num_prompt_tokens}; go on with a worker of the same revision and release",
            reason=Reason.CONTINUATION_UNSUPPORTED,
            field="continuation.prompt_tokens",
        )
    for index, choice in enumerate(continuation.choices):
        _check_choice(choice, stop, f"continuation.choices[{index}].token_ids")


def known_ids_of(continuation: Continuation) -> dict[int, tuple[int, ...]]:
    """Choice → how it begins, of those that go on."""
    return {
        index: choice.token_ids
        for index, choice in enumerate(continuation.choices)
        if choice.end is None
    }


def _check_choice(choice: ContinuedChoice, stop: StopRule, field: str) -> None:
    num_tokens = len(choice.token_ids)
    num_tokens_max = stop.max_tokens - (choice.end is None)
    if num_tokens > num_tokens_max:
        state = "goes on" if choice.end is None else "has ended"
        raise InvalidRequest(
            f"the choice has {num_tokens} tokens; one that {state} has at most {num_tokens_max} "
            f"(max_tokens is {stop.max_tokens})",
            reason=Reason.FIELD_OUT_OF_RANGE,
            field=field,
        )
    if choice.end is not None:
        return
    ends = stop.eos_ids | stop.stop_ids
    for at, token_id in enumerate(choice.token_ids[stop.min_tokens :], start=stop.min_tokens):
        if token_id in ends:
            raise InvalidRequest(
                f"token {token_id} at position {at} ends the choice, which goes on all the same",
                reason=Reason.FIELDS_CONTRADICT,
                field=field,
            )
