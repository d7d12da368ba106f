"""How `--help` reads: an option's type in one word, none for a switch, and paragraphs that fill the line."""

from __future__ import annotations

import inspect
from typing import Any, Final

from typer.core import TyperCommand, TyperGroup, TyperOption

__all__ = ["Command", "Group"]

_WORDS: Final = {int: "INT", float: "NUMBER", str: "TEXT"}
"""Typer's own words take a column of their own for `<bool>` and `<int range>`; at 80 columns nothing is left for the
help."""


class Command(TyperCommand):
    """A command that speaks so."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.help = _filled(self.help or "")

    def get_params(self, ctx: Any) -> list[Any]:
        return _named(super().get_params(ctx))


class Group(TyperGroup):
    """The same for a command that has others."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _named(super().get_params(ctx))


def _filled(text: str) -> str:
    """A line for each paragraph: terminals break it where they end, not where the source did."""
    return "\n\n".join(part.replace("\n", " ") for part in inspect.cleandoc(text).split("\n\n"))


def _named(params: list[Any]) -> list[Any]:
    for param in params:
        if isinstance(param, TyperOption) and param.metavar is None:
            if param.is_flag:
                param.metavar = ""
            elif (word := _WORDS.get(_plain(param.type_descriptor.annotation))) is not None:
                param.metavar = word
    return params


def _plain(annotation: Any) -> Any:
    """The type of one value: `list[str]` is given as one text, repeatedly."""
    inner = getattr(annotation, "__args__", None)
    return inner[0] if inner and len(inner) == 1 else annotation
