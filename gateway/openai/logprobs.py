"""Log-probabilities in the two forms that OpenAI has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lepton.v1 import types_pb2

__all__ = ["chat_logprobs", "text_logprobs", "token_text"]


def chat_logprobs(positions: Iterable[types_pb2.PositionLogprobs]) -> dict[str, Any]:
    """`choices[].logprobs` of chats."""
    return {
        "content": [
            {**_entry(position.chosen), "top_logprobs": [_entry(top) for top in position.top]}
            for position in positions
        ],
        "refusal": None,
    }


def text_logprobs(
    positions: Sequence[types_pb2.PositionLogprobs], offset: int
) -> tuple[dict[str, Any], int]:
    """`choices[].logprobs` of completions, where text begins `offset` characters into the answer; and where it ends."""
    tokens = [token_text(position.chosen.token) for position in positions]
    offsets = []
    for position in positions:
        offsets.append(offset)
        offset += len(position.chosen.token.decode("utf-8", "replace"))
    return {
        "tokens": tokens,
        "token_logprobs": [position.chosen.logprob for position in positions],
        "top_logprobs": [
            {token_text(top.token): top.logprob for top in position.top} for position in positions
        ],
        "text_offset": offsets,
    }, offset


def token_text(token: bytes) -> str:
    r"""A token as text; one that is only a part of a character as `bytes:\xe2\x82`, which keeps two of them apart."""
    try:
        return token.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)


def _entry(one: types_pb2.TokenLogprob) -> dict[str, Any]:
    return {
        "token": token_text(one.token),
        "logprob": one.logprob,
        "bytes": list(one.token),
    }
