"""Why grammars are refused: the words of the pinned llguidance against our reasons."""

from __future__ import annotations

import json

import pytest

from common.errors import Reason
from tests.support.grammars import compiled, json_schema, lark, literals, regex
from worker.engine.grammar import Constraint
from worker.runtime.grammar.limits import GrammarLimits
from worker.runtime.grammar.refusal import Refusal

INVALID, UNSUPPORTED, TOO_LARGE = (
    Reason.GRAMMAR_INVALID,
    Reason.GRAMMAR_UNSUPPORTED,
    Reason.GRAMMAR_TOO_LARGE,
)


def schema(**keywords: object) -> Constraint:
    return json_schema(json.dumps(keywords))


CASES: list[tuple[Constraint, Reason, str]] = [
    (json_schema("{"), INVALID, "not JSON"),
    (json_schema("[1]"), INVALID, "an object, or true"),
    (json_schema("false"), INVALID, "an object, or true"),
    (json_schema('{"items":' * 500 + "{}" + "}" * 500), TOO_LARGE, "recursion limit"),
    (json_schema('{"items":' * 5000 + "{}" + "}" * 5000), TOO_LARGE, "nested too deeply"),
    (schema(type="strin"), INVALID, "strin"),
    (schema(type="integer", minimum=5, maximum=3), INVALID, "minimum (5)"),
    (schema(enum=[]), INVALID, "Unsatisfiable"),
    (json_schema('{"$ref": "#"}'), INVALID, "no text follows it"),
    (json_schema('{"$ref": "#/$defs/none"}'), INVALID, "does not exist"),
    (json_schema('{"$ref": "http://example.com/a"}'), UNSUPPORTED, "http://example.com/a"),
    (json_schema('{"not": {}}'), UNSUPPORTED, '"not"'),
    (schema(type="array", uniqueItems=True), UNSUPPORTED, "uniqueItems"),
    (schema(type="array", contains={}), UNSUPPORTED, "contains"),
    (schema(type="object", propertyNames={}), UNSUPPORTED, "propertyNames"),
    (schema(type="object", dependentRequired={"a": ["b"]}), UNSUPPORTED, "dependentRequired"),
    (schema(type="object", unevaluatedProperties=False), UNSUPPORTED, "unevaluatedProperties"),
    (json_schema('{"if": {}, "then": {}}'), UNSUPPORTED, '"if"'),
    (schema(oneOf=[{"type": "integer"}, {"type": "number"}]), UNSUPPORTED, "oneOf"),
    (schema(type="string", format="phone"), UNSUPPORTED, "phone"),
    (schema(type="string", pattern="a(?=b)"), UNSUPPORTED, "look-ahead"),
    (json_schema('{"not": {}, "x-guidance": {"lenient": true}}'), UNSUPPORTED, "x-guidance"),
    (regex("("), INVALID, "unclosed group"),
    (regex("a\\"), INVALID, "backslash"),
    (regex("[a&&b]"), INVALID, "no text follows it"),
    (regex("a(?=b)"), UNSUPPORTED, "look-ahead"),
    (regex(r"(a)\1"), UNSUPPORTED, "backreferences"),
    (regex(r"\bword"), UNSUPPORTED, "lookarounds"),
    (regex("(" * 2000 + ")" * 2000), TOO_LARGE, "nest"),
    (lark("begin: /a/"), INVALID, "no start rule"),
    (lark("start: /a/ b\nb: other"), INVALID, "2(4)"),
    (
        schema(type="object", required=["limit"], properties={"limit": False}),
        INVALID,
        "property 'limit'",
    ),
    (lark("start: start"), INVALID, "no text follows it"),
    (lark('{"grammars": []}'), INVALID, "rules"),
    (lark("start: <|nope|>"), INVALID, "<|nope|>"),
    (lark('start: %json {"not": {}}'), UNSUPPORTED, '"not"'),
    (lark('start: /a/\n%llguidance {"no_forcing": false}'), UNSUPPORTED, "%llguidance"),
    (lark("start: a\na[temperature=0.5]: /a/"), UNSUPPORTED, "temperature"),
    (lark("start: " + "(" * 5000 + '"a"' + ")" * 5000), TOO_LARGE, "too deeply nested"),
]


@pytest.mark.parametrize(("constraint", "reason", "named"), CASES, ids=map(str, range(len(CASES))))
def test_a_refusal_has_a_reason_and_names_what_is_wrong(
    constraint: Constraint, reason: Reason, named: str
) -> None:
    with pytest.raises(Refusal) as caught:
        compiled(constraint)
    assert named in caught.value.message
    assert caught.value.reason is reason, caught.value.message
    assert len(caught.value.message) <= 300


def test_sizes_are_bounded() -> None:
    repeated = schema(enum=[f"value number {i}" for i in range(2000)])
    compiled(repeated)
    with pytest.raises(Refusal) as caught:
        compiled(
            lark("start: " + " ".join(f'"{i}"' for i in range(2000))),
            limits=GrammarLimits(symbols_max=100),
        )
    assert caught.value.reason is TOO_LARGE


def test_what_json_schema_calls_an_annotation_is_no_reason_to_refuse() -> None:
    compiled(schema(type="string", title="t", description="d", default="x", examples=["y"]))
    compiled(json_schema("true"))
    compiled(literals("a"))
