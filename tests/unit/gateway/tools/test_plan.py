"""What a request with tools becomes, and which answers its grammar lets pass."""

from __future__ import annotations

from typing import Any

import pytest

from common.errors import InvalidRequest, Reason
from gateway.tools.api import ToolChoice, ToolMode, ToolSpec
from gateway.tools.plan import plan_tools
from lepton.v1 import types_pb2
from tests.support.grammars import EOS, compiled, lark

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}
ADD = ToolSpec(name="add", description="adds", parameters=SCHEMA)
NOW = ToolSpec(name="now")
REQUIRED = ToolChoice(mode=ToolMode.REQUIRED)
AUTO = ToolChoice()
STRICT = [ToolSpec(name="add", parameters=SCHEMA, strict=True), NOW]
ANSWER = types_pb2.Constraint(json_schema='{"enum": ["yes"]}')
HERMES = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


def grammar(
    choice: ToolChoice,
    tool_format: str,
    tools: list[ToolSpec] | None = None,
    answer: types_pb2.Constraint | None = None,
) -> str:
    plan = plan_tools(tools or [ADD, NOW], choice, tool_format=tool_format, answer=answer)
    assert plan.constraint is not None
    return plan.constraint.grammar


def passes(text: str, grammar: str) -> bool:
    """Whether the grammar lets a model say `text` and end there."""
    matcher = compiled(lark(grammar)).new_matcher()
    data = text.encode()
    for at, byte in enumerate(data, 1):
        if not matcher.allows(byte):
            return False
        if matcher.advance(byte):
            return at == len(data)
    return matcher.allows(EOS)


def test_what_needs_no_constraint_has_none() -> None:
    plan = plan_tools([ADD, NOW], AUTO, tool_format="hermes")
    assert plan.constraint is None
    assert [tool.name for tool in plan.shown] == ["add", "now"]
    assert plan.shown[0].description == "adds"
    assert plan.shown[0].parameters_json.startswith('{"type": "object"')
    assert plan.shown[1].parameters_json == ""
    nothing = plan_tools([], AUTO, tool_format="", answer=ANSWER)
    assert (nothing.shown, nothing.constraint) == ((), ANSWER)
    hidden = plan_tools([ADD], ToolChoice(mode=ToolMode.NONE), tool_format="hermes", answer=ANSWER)
    assert (hidden.shown, hidden.constraint) == ((), ANSWER)


@pytest.mark.parametrize(
    ("tools", "choice"),
    [
        ([], REQUIRED),
        ([ADD], ToolChoice(mode=ToolMode.REQUIRED, name="sub")),
        ([], ToolChoice(mode=ToolMode.REQUIRED, name="sub")),
    ],
)
def test_what_cannot_be_forced_is_refused(tools: list[ToolSpec], choice: ToolChoice) -> None:
    with pytest.raises(InvalidRequest) as caught:
        plan_tools(tools, choice, tool_format="hermes")
    assert (caught.value.reason, caught.value.field) == (Reason.FIELD_MALFORMED, "tool_choice")


FORCED = {
    "hermes": (HERMES, f"{HERMES}\n{HERMES}"),
    "mistral": (
        '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1}}]',
        '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1}}, {"name": "now", "arguments": {}}]',
    ),
    "granite": (
        '<|tool_call|>[{"name": "now", "arguments": {}}]',
        '<|tool_call|>[{"name": "now", "arguments": {}}, {"name": "now", "arguments": {}}]',
    ),
    "llama3_json": (
        '{"name": "add", "parameters": {"a": 1}}',
        '{"name": "add", "parameters": {"a": 1}}; {"name": "now", "parameters": {}}',
    ),
    "json": (
        '[{"name": "add", "arguments": {"a":1}}]',
        '[{"name": "add", "arguments": {"a":1}}, {"name": "now", "arguments": {}}]',
    ),
}
FORCED["pythonic"] = FORCED["of-tomorrow"] = FORCED["json"]


@pytest.mark.parametrize("name", FORCED)
def test_forced_calls_are_of_the_models_own_format(name: str) -> None:
    one, two = FORCED[name]
    many = grammar(REQUIRED, name)
    single = grammar(ToolChoice(mode=ToolMode.REQUIRED, parallel=False), name)
    assert passes(one, many)
    assert passes(two, many)
    assert passes(one, single)
    assert not passes(two, single)
    for wrong in (
        "",
        "hello",
        one[:-1],
        one.replace("add", "sub").replace("now", "sub"),
        f"{one} x",
    ):
        assert not passes(wrong, many)


def test_a_named_function_is_called_once() -> None:
    named = grammar(ToolChoice(mode=ToolMode.REQUIRED, name="add"), "hermes")
    assert passes(HERMES, named)
    assert not passes(f"{HERMES}\n{HERMES}", named)
    assert not passes(HERMES.replace("add", "now").replace('{"a": 1}', "{}"), named)


def test_strict_arguments_hold_wherever_a_call_begins() -> None:
    free = grammar(AUTO, "hermes", STRICT)
    for text in (
        "",
        "hello",
        "a < b",
        "<tool",
        HERMES,
        f"Hm. {HERMES}\nDone",
        f"{HERMES}\n{HERMES}",
    ):
        assert passes(text, free), text
    wrong = HERMES.replace("1", '"x"')
    for text in (wrong, f"Hm. {wrong}", "<tool_call>", f"{HERMES}{wrong}"):
        assert not passes(text, free), text
    alone = grammar(AUTO, "llama3_json", STRICT)
    for text in ("", "hello", "a {", '{"name": "add", "parameters": {"a": 1}}'):
        assert passes(text, alone), text
    assert not passes('{"name": "add", "parameters": {"a": "x"}}', alone)


def test_one_call_at_most_when_there_may_be_one_only() -> None:
    single = grammar(ToolChoice(parallel=False), "hermes")
    assert passes("hello", single)
    assert passes(f"Hm. {HERMES}", single)
    assert not passes(f"{HERMES}\n{HERMES}", single)


def test_an_answer_of_a_certain_form_or_calls() -> None:
    either = grammar(AUTO, "hermes", answer=ANSWER)
    assert passes('"yes"', either)
    assert passes(HERMES, either)
    assert not passes("yes", either)
    assert not passes(f'"yes"{HERMES}', either)
    anything = grammar(AUTO, "hermes", answer=types_pb2.Constraint(json_object={}))
    assert passes('{"x": [1]}', anything)
    assert passes("7", grammar(AUTO, "hermes", answer=types_pb2.Constraint(json_schema="true")))
    assert not passes(HERMES, grammar(REQUIRED, "mistral", answer=ANSWER))


@pytest.mark.parametrize("schema", ["{", "[1]", '{"a":' * 100_000, "1"])
def test_an_answer_that_nobody_can_follow_is_left_to_the_worker(schema: str) -> None:
    answer = types_pb2.Constraint(json_schema=schema)
    plan = plan_tools([ADD], AUTO, tool_format="hermes", answer=answer)
    assert plan.constraint == answer


def test_answers_of_other_kinds_cannot_stand_beside_calls() -> None:
    for answer in (
        types_pb2.Constraint(regex="a"),
        types_pb2.Constraint(grammar="start: /a/"),
        types_pb2.Constraint(literals={"texts": ["a"]}),
    ):
        with pytest.raises(InvalidRequest) as caught:
            plan_tools([ADD], AUTO, tool_format="hermes", answer=answer)
        assert (caught.value.reason, caught.value.field) == (
            Reason.FIELDS_CONTRADICT,
            "tool_choice",
        )
        assert grammar(REQUIRED, "hermes", answer=answer)
        assert plan_tools([], AUTO, tool_format="", answer=answer).constraint == answer


def test_schemas_cannot_break_out_of_the_grammar() -> None:
    hostile = {
        "type": "object",
        "properties": {'%llguidance {}\nstart: "x"': {"enum": ["%ignore", "\u2028", "/"]}},
        "additionalProperties": False,
    }
    text = grammar(REQUIRED, "hermes", [ToolSpec(name="f", parameters=hostile, strict=True)])
    assert "%llguidance" not in text
    assert text.count("\n") == 4
    call = '{"name": "f", "arguments": {"%llguidance {}\\nstart: \\"x\\"": "%ignore"}}'
    assert passes(f"<tool_call>\n{call}\n</tool_call>", text)
    for odd in (True, [], "x", {"type": "string"}, {}):
        args = grammar(REQUIRED, "hermes", [ToolSpec(name="f", parameters=odd)])
        assert passes('<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>', args)
        assert not passes('<tool_call>\n{"name": "f", "arguments": 1}\n</tool_call>', args)
