"""Expressions, schemas, grammars, tools."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.bad_requests.row import CONTRADICT, LARGE, Row, row
from tests.support.grammars import bomb

__all__ = ["constraints"]

INVALID, UNSUPPORTED = "GRAMMAR_INVALID", "GRAMMAR_UNSUPPORTED"
TOO_LARGE = "GRAMMAR_TOO_LARGE"
_DEEP = "[" * 10_000 + "]" * 10_000

_EXPRESSIONS = (
    ("an expression that does not end", "(", INVALID),
    ("a look-around", "(?=a)b", UNSUPPORTED),
    ("a back-reference", r"(a)\1", UNSUPPORTED),
    ("1 MB of expression", "a" * 1_000_000, LARGE),
)
_SCHEMAS = (
    ("a schema that is no JSON", "{", INVALID),
    ("a schema of depth 10,000", f'{{"enum": {_DEEP}}}', TOO_LARGE),
    ("references in a circle", '{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}', INVALID),
    ("a reference to a server", '{"$ref": "http://127.0.0.1:9/x.json"}', UNSUPPORTED),
    ("a keyword that cannot be kept", '{"not": {}}', UNSUPPORTED),
    ("a type that is none", '{"type": "potato"}', INVALID),
)  # fmt: skip


def constraints() -> Iterator[Row]:
    """B24, B25."""
    for about, text, reason in _EXPRESSIONS:
        yield _row("B24", about, "regex", text, reason)
    for about, text, reason in _SCHEMAS:
        yield _row("B25", about, "json_schema", text, reason)
    yield row(
        "B24",
        "an intersection that takes for ever",
        TOO_LARGE,
        proto=({"constraint": {"grammar": bomb().texts[0]}}, "constraint.grammar"),
        rest=({"guided_grammar": bomb().texts[0]}, "guided_grammar"),
    )
    long = {"type": "object", "properties": {f"p{i}": {"description": "x" * 900} for i in range(9)}}
    tools = [
        {"type": "function", "function": {"name": f"f{i}", "parameters": long, "strict": True}}
        for i in range(50)
    ]
    forced = {"tools": tools, "tool_choice": "required"}
    yield row("B25", "tools whose calls cannot be forced", LARGE, chat=(forced, "tools"))
    yield row(
        "B25",
        "a constraint beside ignore_eos",
        CONTRADICT,
        proto=({"constraint": {"regex": "a"}, "stop": {"ignore_eos": True}}, "stop.ignore_eos"),
        rest=({"guided_regex": "a", "ignore_eos": True}, "ignore_eos"),
        kserve=({"parameters": {"regex": "a", "ignore_eos": True}}, "parameters.ignore_eos"),
    )


def _row(id_: str, about: str, kind: str, text: str, reason: str) -> Row:
    name = {"regex": "guided_regex", "json_schema": "guided_json"}[kind]
    return row(
        id_,
        about,
        reason,
        proto=({"constraint": {kind: text}}, f"constraint.{kind}"),
        rest=({name: text}, name),
        kserve=({"parameters": {kind: text}}, f"parameters.{kind}"),
    )
