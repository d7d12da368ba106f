"""Which parameters of OpenAI's are there, which are let be, and which are refused by name.

A parameter is let be when an answer without it is the answer that was asked for. One that would change the answer is
refused: to ignore it would be to answer another question.
"""

from __future__ import annotations

from typing import Any, Final

from common.errors import Reason, Unsupported

__all__ = ["check_known"]

_HARMLESS: Final = frozenset({"metadata", "safety_identifier", "prompt_cache_retention"})
"""Whatever they say: labels for somebody's books, hints for somebody's cache."""

_HARMLESS_VALUES: Final[dict[str, tuple[Any, ...]]] = {
    "store": (False,),
    "service_tier": ("auto", "default"),
    "modalities": (["text"],),
    "echo": (False,),
    "suffix": ("",),
    "best_of": (1,),
    "function_call": ("none",),
    "functions": ([],),
    "verbosity": ("medium",),
}
"""With these values they ask for nothing."""


def check_known(request: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """`request` without what is let be; `names` are those that the dialect has here.

    Raises `Unsupported(PARAMETER_UNSUPPORTED)` for the first of the others.
    """
    kept = {}
    for name, value in request.items():
        if name in names:
            kept[name] = value
        elif (
            value is not None
            and name not in _HARMLESS
            and value not in _HARMLESS_VALUES.get(name, ())
        ):
            raise Unsupported(
                f"the parameter {name[:64]!r} is not supported here; leave it out (docs/rest.md lists what is)",
                reason=Reason.PARAMETER_UNSUPPORTED,
                field=name[:64],
            )
    return kept
