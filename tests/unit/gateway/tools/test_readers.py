"""Readers of answers: what is a call, what is text, and what becomes of calls that break."""

from __future__ import annotations

import json

import pytest

from gateway.tools.api import ArgumentsDelta, CallBegun, CallEnded, Piece, TextDelta
from gateway.tools.emitter import Emitter
from gateway.tools.registry import FORMATS, format_named

NAMES = ("add", "now")


def read(name: str, text: str, *, step: int = 1, seed: str = "s") -> list[Piece]:
    form = FORMATS[name]
    reader = form.reader(Emitter(NAMES, seed, form.id_of))
    pieces: list[Piece] = []
    for at in range(0, len(text), step):
        pieces += reader.feed(text[at : at + step])
    return pieces + reader.finish()


def told(pieces: list[Piece]) -> list[str]:
    """Texts as they are, calls as name(arguments), those that broke with an ellipsis."""
    said: list[str] = []
    begins = True
    for piece in pieces:
        match piece:
            case TextDelta(text):
                if begins:
                    said.append("")
                said[-1] += text
                begins = False
            case CallBegun(name=name):
                said.append(f"{name}(")
            case ArgumentsDelta(text=text):
                said[-1] += text
            case CallEnded(is_whole=is_whole):
                said[-1] += ")" if is_whole else "…"
                begins = True
    return said


WHOLE = {
    "hermes": [
        ('<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>', ['add({"a": 1})']),
        ('Hm.\n<tool_call>{"name":"now"}</tool_call>', ["Hm.", "now({})"]),
        (
            '<tool_call>{"name":"now"}</tool_call>\n<tool_call>{"name":"now"}</tool_call>\n',
            ["now({})", "now({})"],
        ),
        (
            '<tool_call>{"name":"now"}</tool_call>\n\nDone. ',
            ["now({})", "\n\nDone."],
        ),
        (
            '<tool_call>{"arguments": {"a": "}"}, "name": "add"}</tool_call>',
            ['add({"a": "}"})'],
        ),
        ('<tool_call>{"name":"now"}<tool_call>{"name":"now"}', ["now({})", "now({})"]),
        ('<tool_call><tool_call>{"name":"now"}</tool_call>', ["<tool_call>", "now({})"]),
    ],
    "mistral": [
        (
            '[TOOL_CALLS][{"name": "add", "arguments": {"a": [1]}}, {"name": "now", "id": "x"}]',
            ['add({"a": [1]})', "now({})"],
        ),
        ('Yes [TOOL_CALLS] [{"name": "now"}] ok', ["Yes", "now({})", " ok"]),
    ],
    "granite": [('<|tool_call|>[{"name": "now", "arguments": {}}]', ["now({})"])],
    "llama3_json": [
        (
            '{"name": "add", "parameters": {"a": 1}}; {"name": "now"}',
            ['add({"a": 1})', "now({})"],
        ),
        ('<|python_tag|>{"type": "function", "name": "now", "parameters": {}}', ["now({})"]),
        ('{"name": "now"} and so on', ["now({})", " and so on"]),
    ],
    "pythonic": [
        ("[add(a=1, b='x\"y'), now()]", ['add({"a": 1, "b": "x\\"y"})', "now({})"]),
        (
            "[add(a=(True, None,), b={'k': [-1.5e3, {}]}, )]",
            ['add({"a": [true, null], "b": {"k": [-1.5e3, {}]}})'],
        ),
        (r"[add(a='\x41\u00e9\n', b=false)]", ['add({"a": "A\\u00e9\\n", "b": false})']),
    ],
    "json": [
        ('{"name": "add", "arguments": {"a": 1}}', ['add({"a": 1})']),
        (' [{"name": "now"}, {"name": "now"}] ', ["now({})", "now({})"]),
    ],
}


@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize("name", WHOLE)
def test_calls_are_found(name: str, step: int) -> None:
    for text, expected in WHOLE[name]:
        assert told(read(name, text, step=step)) == expected


BROKEN = {
    "hermes": [
        ('<tool_call>{"name": "other", "arguments": {}}</tool_call>', None),
        ('<tool_call>{"name": "add", "arguments": [1]}</tool_call>', None),
        ('<tool_call>{"name": "add", "extra": 1}</tool_call>', None),
        ("<tool_call>{}</tool_call>", None),
        ("<tool_call>not JSON</tool_call>", None),
        ("if a <tool_ca", None),
        ("a < b", None),
        ("\n", None),
        ('<tool_call>{"name": "ad', None),
        ('<tool_call>{"name": "add", "arguments": {"a": 1', ['add({"a": 1…']),
        (
            '<tool_call>{"name": "add", "arguments": {"a": 01}}</tool_call>',
            ['add({"a": 0…', "1}}</tool_call>"],
        ),
        (
            '<tool_call>{"name": "add", "arguments": {"a": <tool_call>{"name": "now"}',
            ['add({"a": …', "now({})"],
        ),
    ],
    "mistral": [("[TOOL_CALLS]", None), ("[TOOL_CALLS][[", None), ("[TOOL_CALLS]add", None)],
    "llama3_json": [
        ('{"city": "Rome"}', None),
        ('{"name": "Bob", "parameters": {}}', None),
        (" <|python_", None),
        ("<|python_tag|>print(1)", None),
        ("Hello {", None),
    ],
    "pythonic": [
        ("[1, 2]", None),
        ("[other(a=1)]", None),
        ("[add", None),
        ("[add(a=x)]", ['add({"a": …', "x)]"]),
        ("[add(a=[1, 2", ['add({"a": [1, 2…']),
        ("[add(1)]", ["add({…", ")]"]),
    ],
    "json": [("[1]", None), ("[[", None), ("hello", None), ('{"a": 1}', None)],
}


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_call_is_text_and_what_breaks_ends(name: str, step: int) -> None:
    for text, expected in BROKEN[name]:
        assert told(read(name, text, step=step)) == (expected or [text])


def test_arguments_come_while_they_are_written() -> None:
    reader = format_named("hermes").reader(Emitter(NAMES, "s"))
    assert reader.feed('<tool_call>{"name": "add"') == []
    begun = reader.feed(', "arguments": {"a"')
    assert [type(piece) for piece in begun] == [CallBegun, ArgumentsDelta]
    assert reader.feed(": 1") == [ArgumentsDelta(0, ": 1")]
    assert reader.feed("}}") == [ArgumentsDelta(0, "}"), CallEnded(0, is_whole=True)]
    assert reader.num_calls == 1


def test_ids_depend_on_seed_and_index_alone() -> None:
    text = '[{"name": "now"}, {"name": "now"}]'

    def ids(seed: str, name: str = "json") -> list[str]:
        marker = FORMATS[name].marker
        return [p.id for p in read(name, marker + text, seed=seed) if isinstance(p, CallBegun)]

    assert ids("a") == ids("a")
    assert len({*ids("a"), *ids("b")}) == 4
    assert all(len(one) == 9 and one.isalnum() for one in ids("a", "mistral"))


def test_a_format_that_is_not_known_is_read_as_json() -> None:
    assert format_named("of-tomorrow") is FORMATS["json"]


BOMBS = {
    "brackets": "[" * 100_000,
    "braces": "{" * 100_000,
    "begins": "<tool_call>" * 9_000,
    "list begins": "[TOOL_CALLS][" * 8_000,
    "white space": " " * 100_000,
    "a name": '<tool_call>{"name": "' + "a" * 100_000,
    "early arguments": '<tool_call>{"arguments": {"a": "' + "x" * 100_000,
    "deep": '<tool_call>{"name": "add", "arguments": ' + '{"a":' * 30_000,
    "deep list": "[add(a=" + "[" * 100_000,
    "half words": "<tool_cal" * 12_000,
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("name", FORMATS)
def test_hostile_answers_come_out_whole(name: str, bomb: str) -> None:
    """In a time that a test without a clock can afford; what is held back is bounded."""
    text = BOMBS[bomb]
    form = FORMATS[name]
    reader = form.reader(Emitter(NAMES, "s"))
    num_told = most_held = 0
    said = ""
    for at in range(0, len(text), 1000):
        for piece in reader.feed(text[at : at + 1000]):
            if isinstance(piece, TextDelta | ArgumentsDelta):
                said += piece.text
        num_told = len(said)
        most_held = max(most_held, at + 1000 - num_told)
    for piece in reader.finish():
        if isinstance(piece, TextDelta | ArgumentsDelta):
            said += piece.text
    assert most_held < 20_000
    assert text.endswith(said[-100:])
    if not reader.num_calls:
        assert said == text


def test_json_numbers_and_literals_are_checked() -> None:
    for value in ("-0", "1.5E-3", "true", "null", '"\\u00e9"', "[]", "[1, {}]"):
        text = f'<tool_call>{{"name": "add", "arguments": {{"a": {value}}}}}'
        (call,) = told(read("hermes", text))
        assert call.endswith(")")
        json.loads(call.removeprefix("add(").removesuffix(")"))
    for value in ("01", "1.", "tru", "nul1", '"\n"', '"\\x"', "[1,]", "[,1]", "'a'", "NaN", "+1"):
        text = f'<tool_call>{{"name": "add", "arguments": {{"a": {value}}}}}'
        assert not told(read("hermes", text))[0].endswith(")")
