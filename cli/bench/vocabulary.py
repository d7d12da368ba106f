"""Ordinary token ids of a model, to make prompts of a known length from: no control tokens, nothing rare."""

from __future__ import annotations

from typing import Final

from cli.client import Client
from common.errors import InvalidRequest, Reason

__all__ = ["ordinary_ids"]

_TEXT: Final = (
    "A river rises in the hills and runs down to the sea. On its way it turns mills, feeds fields and carries boats; "
    "in spring it is wide and brown, in summer slow and clear. People have built towns along its banks, with bridges, "
    "markets, schools and stations. Every morning the trains bring those who work in the city, and every evening they "
    "take them home again. What would they do without it? Nobody knows exactly, but 27 of 1,864 asked said: walk."
)


async def ordinary_ids(client: Client, *, model: str = "") -> tuple[int, ...]:
    """The distinct ids of a plain English text, as the model's own tokenizer cuts it.

    Raises `LeptonError` as the service does; `InvalidRequest` when the tokenizer makes nothing of it.
    """
    ids = tuple(dict.fromkeys(await client.tokenize(_TEXT, model=model)))
    if len(ids) < 2:
        raise InvalidRequest(
            "the model's tokenizer has no tokens for plain English; leave --prompt-tokens out",
            reason=Reason.FIELD_MALFORMED,
            field="prompt-tokens",
        )
    return ids
