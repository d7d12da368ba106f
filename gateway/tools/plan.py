"""A request with tools → what the model is shown, what holds it to calls, and who reads its answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from common.errors import InvalidRequest, Reason
from gateway.tools.api import OutputParser, ToolChoice, ToolMode, ToolSpec
from gateway.tools.emitter import Emitter
from gateway.tools.format import Format
from gateway.tools.grammar import calls_only, calls_or_schema, calls_or_text
from gateway.tools.plain_text import PlainText
from gateway.tools.reasoning import ReasoningReader
from gateway.tools.registry import FORMATS, format_named
from lepton.v1 import types_pb2

__all__ = ["ToolPlan", "plan_tools"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolPlan:
    """How one request is asked, and how each of its choices is read."""

    shown: tuple[types_pb2.Tool, ...]
    """For `ChatInput.tools`."""
    constraint: types_pb2.Constraint | None
    """For `GenerateRequest.constraint`. A refusal that names this field is about tools, or about what the answer must
    look like when there are none."""
    form: Format | None
    """In which calls are written; None: there are none."""

    def new_parser(self, id_seed: str) -> OutputParser:
        """For one choice. Calls get the same ids whenever the seed is the same."""
        if self.form is None:
            return ReasoningReader(PlainText())
        names = (tool.name for tool in self.shown)
        return ReasoningReader(self.form.reader(Emitter(names, id_seed, self.form.id_of)))


def plan_tools(
    tools: Sequence[ToolSpec],
    choice: ToolChoice,
    *,
    tool_format: str,
    answer: types_pb2.Constraint | None = None,
) -> ToolPlan:
    """`tool_format` as `ModelInfo` says it; `answer` is what an answer without calls must look like.

    A constraint is made where one is needed: when calls are required, when arguments must follow their schema to the
    letter, when there may be one call only, and beside `answer`. Raises `InvalidRequest` when `choice` forces what is
    not among `tools`, FIELDS_CONTRADICT when calls cannot stand beside that kind of `answer`; everything else about
    tools the validator of router and worker judges.
    """
    if choice.mode is ToolMode.REQUIRED and not tools:
        _fail("tools are required, and there are none; send tools")
    if choice.name and choice.name not in {tool.name for tool in tools}:
        _fail(f"there is no tool {choice.name!r}; name one of tools")
    if choice.mode is ToolMode.NONE or not tools:
        return ToolPlan(shown=(), constraint=answer, form=None)
    form = format_named(tool_format)
    grammar = _grammar(form, tools, choice, answer)
    if grammar is not None and form.forces:
        form = FORMATS[form.forces]
    return ToolPlan(
        shown=tuple(_shown(tool) for tool in tools),
        # Without a grammar an `answer` is left that nobody can follow: the worker says why.
        constraint=answer if grammar is None else types_pb2.Constraint(grammar=grammar),
        form=form,
    )


def _grammar(
    form: Format,
    tools: Sequence[ToolSpec],
    choice: ToolChoice,
    answer: types_pb2.Constraint | None,
) -> str | None:
    if form.forces:
        form = FORMATS[form.forces]
    many = choice.parallel and not choice.name
    if choice.mode is ToolMode.REQUIRED:
        meant = [tool for tool in tools if choice.name in ("", tool.name)]
        return calls_only(form, meant, many=many)
    if answer is not None:
        return _calls_or(answer, form, tools, many=many)
    if any(tool.strict for tool in tools) or not choice.parallel:
        return calls_or_text(form, tools, many=many)
    return None


def _calls_or(
    answer: types_pb2.Constraint, form: Format, tools: Sequence[ToolSpec], *, many: bool
) -> str | None:
    """None when the schema of `answer` cannot be read."""
    kind = answer.WhichOneof("kind")
    if kind == "json_object":
        return calls_or_schema(form, tools, {"type": "object"}, many=many)
    if kind != "json_schema":
        raise InvalidRequest(
            f"an answer that must follow a {kind} cannot hold calls of tools beside it; take a JSON schema, or the "
            "tool_choice none or required",
            reason=Reason.FIELDS_CONTRADICT,
            field="tool_choice",
        )
    try:
        schema = json.loads(answer.json_schema)
        schema = {} if schema is True else schema
        return calls_or_schema(form, tools, schema, many=many) if isinstance(schema, dict) else None
    except (ValueError, RecursionError):
        return None


def _shown(tool: ToolSpec) -> types_pb2.Tool:
    return types_pb2.Tool(
        name=tool.name,
        description=tool.description,
        parameters_json="" if tool.parameters is None else json.dumps(tool.parameters),
    )


def _fail(message: str) -> NoReturn:
    raise InvalidRequest(message, reason=Reason.FIELD_MALFORMED, field="tool_choice")
