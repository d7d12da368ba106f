"""Where chat templates run: they come with model folders, so they may change nothing and reach nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["TemplateSandbox"]

EXPONENT_MAX: Final = 64
REPEATED_MAX: Final = 1 << 20
"""Most characters or items that a repetition may make."""
JSON_CHARS_MAX: Final = 8 << 20
"""Longest indented JSON text."""


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """What transformers gives to templates, too: loop controls, tojson, raise_exception, strftime_now.

    Also refuses "x" * 10**9 and 10**10**10, which fill the memory before anything is written.
    """

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        self.filters["tojson"] = _tojson
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Numbers stay small, and nothing is repeated more often than a rendering may be long."""
        if operator == "**" or not (
            isinstance(left, int | float) and isinstance(right, int | float)
        ):
            size = max((abs(v) for v in (left, right) if isinstance(v, int | float)), default=0)
            length = max(
                (len(v) for v in (left, right) if isinstance(v, str | list | tuple)), default=1
            )
            if size * length > (EXPONENT_MAX if operator == "**" else REPEATED_MAX):
                raise TemplateError(f"{operator} with {size} is too large")
        return super().call_binop(context, operator, left, right)


def _tojson(value: Any, indent: int | None = None, **options: Any) -> str:
    """Jinja's own filter escapes <, > and & for HTML, which is not what models were trained on. `options` as in `json`.

    With an indent a small value that is nested deeply becomes a long text: bounded while it is written.
    """
    options = {"ensure_ascii": False} | options
    if indent is None:
        return json.dumps(value, **options)
    parts, size = [], 0
    for part in json.JSONEncoder(indent=indent, **options).iterencode(value):
        parts.append(part)
        size += len(part)
        if size > JSON_CHARS_MAX:
            raise TemplateError(f"tojson writes more than {JSON_CHARS_MAX} characters")
    return "".join(parts)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(format: str) -> str:  # noqa: A002 - the name that templates know
    return datetime.now(UTC).strftime(format)
