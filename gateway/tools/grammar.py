r"""Lark grammars that hold an answer to the format of its calls, in the dialect of llguidance.

    calls: "<tool_call>\n" call ("\n</tool_call>\n<tool_call>\n" call)* "\n</tool_call>"
    call: "{\"name\": \"" named
    named: "add\", \"arguments\": " args_0 "}" | …
    args_0: %json {…}

What else an answer may be stands beside `calls`: nothing, texts between calls, or another schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from common.request.json_space import JSON_SPACE_MAX
from gateway.tools.api import ToolSpec
from gateway.tools.format import Format

__all__ = ["calls_only", "calls_or_schema", "calls_or_text"]

_CALL: Final = json.dumps('{"name": "')
_NO_ARGUMENTS: Final = {"type": "object", "properties": {}, "additionalProperties": False}


def calls_only(form: Format, tools: Sequence[ToolSpec], *, many: bool) -> str:
    """One call, or with `many` at least one, and nothing else."""
    return "\n".join(("start: calls", *_calls(form, tools, form.marker, many=many)))


def calls_or_schema(form: Format, tools: Sequence[ToolSpec], schema: Any, *, many: bool) -> str:
    """Calls, or one JSON text that `schema` accepts."""
    answer = _json_rule("answer", schema, is_lenient=False)
    return "\n".join(
        ("start: calls | answer", answer, *_calls(form, tools, form.marker, many=many))
    )


def calls_or_text(form: Format, tools: Sequence[ToolSpec], *, many: bool) -> str:
    """Any text, with calls wherever the format has its marker; a format without one has them alone or not at all."""
    if not form.marker:
        rules = ("start: calls | TEXT?", r"TEXT: /\s*[^\s\[{<](?s:.*)/")
        return "\n".join((*rules, *_calls(form, tools, "", many=many)))
    marker = _regex(form.marker)
    start = "start: (before calls)* TEXT?" if many else "start: TEXT? | before calls"
    marked = (
        start,
        f"before[lazy]: /(?s:.*){marker}/",
        f"TEXT: /(?s:.+)/ & ~/(?s:.*{marker}.*)/",
    )
    # The marker was said by `before`, which also says it again. One word must not begin like another one that may come
    # in its place: lexers take the longer one, and do not come back.
    in_a_row = many and form.marker not in form.between
    return "\n".join((*marked, *_calls(form, tools, "", many=in_a_row)))


def _calls(form: Format, tools: Sequence[ToolSpec], marker: str, *, many: bool) -> list[str]:
    begin = _literal(marker + form.before)
    end = _literal(form.after)
    more = f" ({_literal(form.between)} call)*" if many and form.between else ""
    names = " | ".join(
        f'{_literal(f"""{tool.name}", "{form.arguments_key}": """)} args_{index} "}}"'
        for index, tool in enumerate(tools)
    )
    return [
        f"calls: {begin} call{more} {end}",
        f"call: {_CALL} named",
        f"named: {names}",
        *(
            _json_rule(f"args_{index}", _parameters(tool), is_lenient=not tool.strict)
            for index, tool in enumerate(tools)
        ),
    ]


def _parameters(tool: ToolSpec) -> Mapping[str, Any]:
    """Arguments are an object, whatever the schema leaves open."""
    schema = _NO_ARGUMENTS if tool.parameters is None else tool.parameters
    return {**schema, "type": "object"} if isinstance(schema, Mapping) else {"type": "object"}


def _json_rule(name: str, schema: Any, *, is_lenient: bool) -> str:
    options = {
        "whitespace_pattern": rf"[ \n\r\t]{{1,{JSON_SPACE_MAX}}}",
        "lenient": is_lenient,
        "coerce_one_of": is_lenient,
    }
    guided = {**schema, "x-guidance": options} if isinstance(schema, Mapping) else schema
    # "%" begins directives of grammars, and schemas come from strangers.
    return f"{name}: %json " + json.dumps(guided).replace("%", "\\u0025")


def _literal(text: str) -> str:
    """Empty for no text."""
    return json.dumps(text) if text else ""


def _regex(text: str) -> str:
    return re.escape(text).replace("/", r"\/")
