"""How a model writes calls of tools, read off its chat template.

    hermes       <tool_call>{"name": …, "arguments": {…}}</tool_call>           Qwen, SmolLM3, Hermes
    granite      <|tool_call|>[{"name": …, "arguments": {…}}]                   Granite 3
    mistral      [TOOL_CALLS][{"name": …, "arguments": {…}}]                    Mistral
    llama3_json  {"name": …, "parameters": {…}}                                 Llama 3
    pythonic     [name(key=value)]                                              Llama 3.2 and 4
    json         {"name": …, "arguments": {…}}                                  any other template that shows tools

`gateway.tools` reads and forces these. The worker only says which, and prints the words that begin and end a call.
"""

from __future__ import annotations

import re
from typing import Final

from jinja2 import Environment, TemplateError, meta

from common.errors import BadModel, Reason

__all__ = ["CALL_WORDS", "FORMATS", "tool_format_of"]

FORMATS: Final = ("hermes", "granite", "mistral", "llama3_json", "pythonic", "json")

CALL_WORDS: Final = frozenset(
    {
        "<tool_call>", "</tool_call>", "<|tool_call|>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>",
        "<think>", "</think>",
    }
)  # fmt: skip
"""Control tokens that are words of an answer although their tokenizer calls them special."""

_MARKERS: Final = (
    # The first that a template holds decides, so the more particular come first.
    ("json", re.compile(r"<function=")),  # <tool_call> around XML: read by nobody here
    ("mistral", re.compile(r"\[TOOL_CALLS\]")),
    ("granite", re.compile(r"<\|tool_call\|>")),
    ("hermes", re.compile(r"<tool_call>")),
    ("pythonic", re.compile(r"\[?func_name1\(|<\|python_start\|>")),
    ("llama3_json", re.compile(r"<\|python_tag\|>|\"parameters\":")),
)
_TOOLS: Final = re.compile(r"\btools\b")


def tool_format_of(template: str | None, setting: str = "auto") -> str:
    """One of `FORMATS`, or empty for a model that knows no tools. `setting` decides unless it is "auto".

    Raises `BadModel(MODEL_TOKENIZER_INVALID)` when the template cannot be read.
    """
    if setting != "auto":
        return "" if setting == "none" else setting
    if template is None or not _shows_tools(template):
        return ""
    return next((name for name, marker in _MARKERS if marker.search(template)), "json")


def _shows_tools(template: str) -> bool:
    """Whether it looks at the variable `tools`; the word may also stand in its text."""
    if not _TOOLS.search(template):
        return False
    environment = Environment(extensions=["jinja2.ext.loopcontrols"], autoescape=False)  # noqa: S701 - only parsed
    try:
        return "tools" in meta.find_undeclared_variables(environment.parse(template))
    except TemplateError as error:
        raise BadModel(
            f"chat_template.jinja: {error}", reason=Reason.MODEL_TOKENIZER_INVALID
        ) from error
