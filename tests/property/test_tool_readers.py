"""However an answer is cut, the same comes out; calls that were written come back; forced answers are calls."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tools.api import (
    ArgumentsDelta,
    CallBegun,
    CallEnded,
    OutputParser,
    Piece,
    ReasoningDelta,
    TextDelta,
    ToolChoice,
    ToolMode,
    ToolSpec,
)
from gateway.tools.plan import plan_tools
from gateway.tools.registry import FORMATS

TOOLS = [ToolSpec(name=name, parameters={"type": "object"}) for name in ("add", "get-now", "f_1")]
Call = tuple[str, dict[str, Any]]

texts = st.text(max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
calls = st.lists(
    st.tuples(st.sampled_from([tool.name for tool in TOOLS]), st.dictionaries(texts, values, max_size=3)),
    min_size=1,
    max_size=4,
)  # fmt: skip
keywords = st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True), values, max_size=3)  # fmt: skip


def reader(name: str) -> OutputParser:
    return plan_tools(TOOLS, ToolChoice(), tool_format=name).new_parser("seed")


def joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Neighbours of one kind as one."""
    whole: list[Piece] = []
    for piece in pieces:
        last = whole[-1] if whole else None
        match last, piece:
            case TextDelta(), TextDelta():
                whole[-1] = TextDelta(last.text + piece.text)
            case ReasoningDelta(), ReasoningDelta():
                whole[-1] = ReasoningDelta(last.text + piece.text)
            case ArgumentsDelta(), ArgumentsDelta():
                whole[-1] = ArgumentsDelta(piece.index, last.text + piece.text)
            case _:
                whole.append(piece)
    return whole


def read(parser: OutputParser, parts: Sequence[str]) -> list[Piece]:
    pieces = [piece for part in parts for piece in parser.feed(part)]
    return joined(pieces + parser.finish())


def cut(text: str, places: Sequence[int]) -> list[str]:
    ends = sorted({place % (len(text) + 1) for place in places})
    return [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]


# Pieces of every format, so that words begin and break off in all places.
scraps = st.lists(
    st.sampled_from([
        "<tool_call>", "</tool_call>", "<tool", "[TOOL_CALLS]", "[TOOL", "<|tool_call|>", "<|python_tag|>", "<|",
        "<think>", "</think>", "</thi", '{"name": "add"', '{"name":"f_1","arguments":{}}', ', "arguments": {',
        ', "parameters": {"a"', ": 1", "}", "}}", "]", "[", ", ", "; ", "[add(", "a=", "'x'", ")", '"', "\\", "\\u00",
        "text", "\n", "  ", "é", "<",
    ]),
    max_size=14,
).map("".join)  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=150, deadline=None)
@given(text=scraps, places=st.lists(st.integers(0, 400), max_size=8))
def test_cuts_change_nothing(name: str, text: str, places: list[int]) -> None:
    whole = read(reader(name), [text])
    assert read(reader(name), cut(text, places)) == whole
    assert read(reader(name), list(text)) == whole
    open_calls: list[int] = []
    for piece in whole:  # begun, arguments, ended, in order and one at a time
        match piece:
            case CallBegun(index=index):
                assert not open_calls
                open_calls.append(index)
            case ArgumentsDelta(index=index):
                assert open_calls == [index]
            case CallEnded(index=index):
                assert open_calls == [index]
                open_calls.clear()
            case _:
                assert not open_calls
    assert not open_calls
    check_whole_arguments(whole)


def check_whole_arguments(pieces: Sequence[Piece]) -> None:
    arguments: dict[int, str] = {}
    for piece in pieces:
        if isinstance(piece, ArgumentsDelta):
            arguments[piece.index] = arguments.get(piece.index, "") + piece.text
        elif isinstance(piece, CallEnded) and piece.is_whole:
            assert isinstance(json.loads(arguments[piece.index]), dict)


def calls_in(pieces: Sequence[Piece]) -> list[Call]:
    names = [piece.name for piece in pieces if isinstance(piece, CallBegun)]
    arguments = [piece.text for piece in pieces if isinstance(piece, ArgumentsDelta)]
    assert all(piece.is_whole for piece in pieces if isinstance(piece, CallEnded))
    return [(name, json.loads(text)) for name, text in zip(names, arguments, strict=True)]


def written(name: str, made: Sequence[Call], indent: int | None) -> str:
    form = FORMATS[name]
    if name == "pythonic":
        said = (
            f"{call}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
            for call, arguments in made
        )
        return f"[{', '.join(said)}]"
    objects = [
        json.dumps({"name": call, form.arguments_key: arguments}, indent=indent)
        for call, arguments in made
    ]
    return form.marker + form.before + form.between.join(objects) + form.after


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"pythonic"}))
@settings(max_examples=60, deadline=None)
@given(
    made=calls, indent=st.sampled_from([None, 1]), places=st.lists(st.integers(0, 900), max_size=6)
)
def test_written_calls_come_back(
    name: str, made: list[Call], indent: int | None, places: list[int]
) -> None:
    text = written(name, made, indent)
    assert calls_in(read(reader(name), cut(text, places))) == made


@settings(max_examples=120, deadline=None)
@given(made=st.lists(st.tuples(st.just("add"), keywords), min_size=1, max_size=3))
def test_written_python_calls_come_back(made: list[Call]) -> None:
    assert calls_in(read(reader("pythonic"), [written("pythonic", made, None)])) == made


@settings(max_examples=60, deadline=None)
@given(
    thought=scraps.filter(lambda text: "</think>" not in text), answer=st.sampled_from(["", "yes"])
)
def test_thoughts_are_no_answer(thought: str, answer: str) -> None:
    pieces = read(reader("hermes"), [f"\n<think>{thought}</think>\n\n{answer}"])
    said = [piece.text for piece in pieces if isinstance(piece, TextDelta)]
    assert said == ([answer] if answer else [])
    assert [p.text for p in pieces if isinstance(p, ReasoningDelta)] == (
        [thought] if thought else []
    )


def test_none_hides_the_tools() -> None:
    plan = plan_tools(TOOLS, ToolChoice(mode=ToolMode.NONE), tool_format="hermes")
    assert (plan.shown, plan.constraint) == ((), None)
    text = '<tool_call>{"name": "add"}</tool_call>'
    assert read(plan.new_parser("s"), [text]) == [TextDelta(text)]
