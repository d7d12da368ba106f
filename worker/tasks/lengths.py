"""How prompt, completion and context share the tokens. Pure."""

from __future__ import annotations

from common.errors import InvalidRequest, Reason

__all__ = ["max_tokens_of"]


def max_tokens_of(
    *, num_prompt_tokens: int, context_length: int, asked: int | None, default: int, min_tokens: int
) -> int:
    """Most completion tokens of a request: what it asks for, else what the context leaves up to `default`.

    Raises `InvalidRequest`: PROMPT_TOO_LONG when the prompt leaves no room for a single token, PROMPT_EMPTY when it has
    no tokens, FIELD_OUT_OF_RANGE when more is asked for than is left.
    """
    left = context_length - num_prompt_tokens
    if num_prompt_tokens == 0:
        raise InvalidRequest(
            "the prompt has no tokens; send at least one", reason=Reason.PROMPT_EMPTY, field="input"
        )
    if left < 1:
        raise InvalidRequest(
            f"the prompt has {num_prompt_tokens} tokens; the context of the model holds {context_length}, "
            "of which the completion needs at least 1",
            reason=Reason.PROMPT_TOO_LONG,
            field="input",
        )
    if asked is not None and asked > left:
        raise InvalidRequest(
            f"max_tokens is {asked}; the context of {context_length} leaves {left} after a prompt of "
            f"{num_prompt_tokens} tokens",
            reason=Reason.FIELD_OUT_OF_RANGE,
            field="stop.max_tokens",
        )
    max_tokens = min(left, default) if asked is None else asked
    if min_tokens > max_tokens:
        raise InvalidRequest(
            f"min_tokens is {min_tokens}; the completion has at most {max_tokens}",
            reason=Reason.FIELD_OUT_OF_RANGE,
            field="stop.min_tokens",
        )
    return max_tokens
