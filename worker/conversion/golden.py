"""A golden prompt for a converted model: a question, and as much of its greedy answer as no machine can doubt.

A worker that answers otherwise does not serve (`worker.runtime.self_check`), on whatever processor it runs, in
whichever form it computes. Rounded numbers differ a little between those, so the answer ends before the first token
whose lead over the second is small, or on which the forms disagree.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from common.errors import InvalidRequest
from worker.conversion.forms import Forms
from worker.runtime.artifacts import GoldenMessage
from worker.runtime.self_check import DIFFERENCE_MAX
from worker.runtime.tokenizer import Tokenizer

__all__ = ["golden_of"]

QUESTION: Final = "Name three colours."
BEGINNING: Final = "One, two, three, four,"
"""For models without a chat template."""

TOKENS_MAX: Final = 24


def golden_of(folder: Path) -> dict[str, Any] | None:
    """What golden.json is to hold; None when not even the first token is beyond doubt (random weights, say).

    Raises `BadModel` for a folder that a worker would refuse.
    """
    forms = Forms(folder)
    golden, prompt_ids = _prompt(forms.tokenizer)
    ids: list[int] = []
    room = min(TOKENS_MAX, forms.config.context_length - len(prompt_ids))
    while len(ids) < room and (token_id := _sure_token(forms, [*prompt_ids, *ids])) is not None:
        ids.append(token_id)
        if token_id in forms.config.eos_ids:
            break
    if not ids:
        return None
    spoken = ids[:-1] if ids[-1] in forms.config.eos_ids else ids
    return golden | {"max_tokens": len(ids), "text": forms.tokenizer.decode(spoken)}


def _prompt(tokenizer: Tokenizer) -> tuple[dict[str, Any], list[int]]:
    """As golden.json has it, and its ids; plain text where there is no chat template, or one that wants more."""
    message = GoldenMessage(role="user", content=QUESTION)
    try:
        ids = tokenizer.encode_chat([message], add_generation_prompt=True)
    except InvalidRequest:
        return {"prompt": BEGINNING}, tokenizer.encode(BEGINNING)
    return {"messages": [{"role": message.role, "content": message.content}]}, ids


def _sure_token(forms: Forms, ids: list[int]) -> int | None:
    """The next token, if it leads in every form by more than forms and machines differ."""
    chosen: set[int] = set()
    for form in forms.names:
        (row,) = forms.logits(form, ids, last_only=True)
        second, first = np.partition(row, -2)[-2:]
        if not first - second > DIFFERENCE_MAX * row.std():  # also when they are not finite
            return None
        chosen.add(int(row.argmax()))
    return chosen.pop() if len(chosen) == 1 else None
