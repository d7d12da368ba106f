"""Tools in chat templates: shown as transformers shows them, never as control tokens; formats are recognised."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import BadModel, InvalidRequest
from tests.support.tiny_models import TINY_LLAMA, Message
from tests.support.tool_models import HERMES_TEMPLATE
from worker.runtime.grammar.tokens import token_table
from worker.runtime.tokenizer import Tokenizer
from worker.runtime.tool_format import FORMATS, tool_format_of
from worker.settings import WorkerSettings
from worker.tasks.api import Tool, ToolCall

TOKENIZER_JSON = json.loads((TINY_LLAMA / "tokenizer.json").read_text("utf-8"))
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CALL_ID = 300
"""Of <tool_call>, the first id that the tiny tokenizer leaves free."""


def make_tokenizer(template: str, *, special: bool = False) -> Tokenizer:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [
        *TOKENIZER_JSON["added_tokens"],
        {"id": CALL_ID, "content": "<tool_call>", "special": special, **flags},
        {"id": CALL_ID + 1, "content": "<|object_start|>", "special": True, **flags},
    ]
    return Tokenizer(
        json.dumps(TOKENIZER_JSON | {"added_tokens": added}),
        chat_template=template,
        named_tokens={"bos_token": SPECIAL[0]},
    )


TOKENIZER = make_tokenizer(HERMES_TEMPLATE)
ADD = Tool(
    name="add",
    description="Adds <b> & 'c'.",
    parameters={"type": "object", "properties": {"a": {"type": "integer"}}},
)


def shown(tokenizer: Tokenizer, ids: list[int]) -> str:
    return b"".join(map(tokenizer.token_bytes, ids)).decode()


def test_tools_and_calls_are_rendered_as_templates_expect_them() -> None:
    messages = [
        Message("user", "1+2?"),
        Message("assistant", "", tool_calls=(ToolCall(id="c1", name="add", arguments={"a": 1}),)),
        Message("tool", "3", tool_call_id="c1"),
    ]
    ids = TOKENIZER.encode_chat(messages, add_generation_prompt=True, tools=[ADD])
    assert shown(TOKENIZER, ids) == (
        "<|im_start|>system\n<tools>\n"
        '{"type": "function", "function": {"name": "add", "description": "Adds <b> & \'c\'.", "parameters": '
        '{"type": "object", "properties": {"a": {"type": "integer"}}}}}\n</tools>\n'
        'Return calls as <tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>\n'
        "<|im_start|>user\n1+2?<|im_end|>\n"
        '<|im_start|>assistant\n\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n3\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )
    assert [i for i in ids if i in TOKENIZER.control_ids] == [
        1,
        CALL_ID,
        2,
        1,
        2,
        1,
        CALL_ID,
        2,
        1,
        2,
        1,
    ]


def test_templates_see_schemas_call_ids_and_what_is_absent() -> None:
    template = (
        "{{ tools is none }}|{{ messages[0].tool_calls is defined }}|{{ messages[1].tool_call_id }}"
        "{% for t in tools or [] %}{% for n, p in t.function.parameters.properties.items() %}"
        "|{{ n }}:{{ 'obj' if p.type == 'object' else 'other' }}{% endfor %}{% endfor %}"
    )
    tokenizer = make_tokenizer(template)
    messages = [Message("user", "x"), Message("tool", "y", tool_call_id="id")]
    plain = tokenizer.encode_chat(messages, add_generation_prompt=True)
    assert shown(tokenizer, plain) == "True|False|id"
    tool = Tool(
        name="f", description="", parameters={"properties": {"start": {"type": "object"}, "b": {}}}
    )
    ids = tokenizer.encode_chat(messages, add_generation_prompt=True, tools=[tool])
    assert shown(tokenizer, ids) == "False|False|id|start:obj|b:other"


trouble = st.lists(
    st.sampled_from(
        [*SPECIAL, "<tool_call>", "<|", "|>", "<|im_", "im_end|>", "object", "<", '"', "é", "﷐"]
    ),
    max_size=4,
).map("".join)
values = st.recursive(
    trouble | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(trouble, inner, max_size=2),
    max_leaves=4,
)
HOSTILE = {
    "hermes": HERMES_TEMPLATE,
    "all as JSON": "{{ tools | tojson(indent=2) }}{{ messages | tojson }}<|im_end|>",
    "glued": (
        "{% for t in tools %}{{ t.function.name }}{{ t.function.description }}{{ t.function.name | trim }}{% endfor %}"
        "{% for m in messages %}{{ m.tool_call_id }}{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.id }}{{ c.function.arguments.keys() | join }}{% endfor %}{% endfor %}"
    ),
}


@pytest.mark.parametrize("template", HOSTILE.values(), ids=HOSTILE)
@settings(max_examples=80, deadline=None)
@given(texts=st.lists(trouble, min_size=5, max_size=5), inner=st.dictionaries(trouble, values))
def test_nothing_about_tools_becomes_a_control_token(
    template: str, texts: list[str], inner: dict[str, Any]
) -> None:
    """The same control tokens as with harmless texts in the same places."""

    def control(texts: list[str], inner: dict[str, Any]) -> list[int]:
        call = ToolCall(id=texts[0], name=texts[1], arguments=inner)
        messages = [
            Message("assistant", texts[2], tool_calls=(call,)),
            Message("tool", texts[3], tool_call_id=texts[4]),
        ]
        tool = Tool(name=texts[1], description=texts[2], parameters=inner)
        ids = tokenizer.encode_chat(messages, add_generation_prompt=True, tools=[tool])
        return [i for i in ids if i in tokenizer.control_ids]

    tokenizer = make_tokenizer(template)
    assert control(texts, inner) == control(["a"] * 5, {"a": "b"})


def test_what_a_template_makes_of_nested_tools_is_bounded() -> None:
    deep: dict[str, Any] = {"a": [[0]] * 200_000}
    tool = Tool(name="f", description="", parameters=deep)
    tokenizer = make_tokenizer("{{ tools | tojson(indent=20) }}")
    with pytest.raises(InvalidRequest, match="tojson writes more"):
        tokenizer.encode_chat([Message("user", "x")], add_generation_prompt=True, tools=[tool])


@pytest.mark.parametrize("special", [False, True])
def test_words_around_calls_are_printed_and_grammars_spell_them(special: bool) -> None:
    tokenizer = make_tokenizer(HERMES_TEMPLATE, special=special)
    assert CALL_ID in tokenizer.control_ids
    assert CALL_ID not in tokenizer.encode("<tool_call>")
    assert tokenizer.decode([CALL_ID]) == "<tool_call>"
    assert tokenizer.printed_bytes(CALL_ID) == b"<tool_call>"
    assert tokenizer.printed_bytes(2) == b""
    table = token_table(tokenizer.vocabulary, vocab_size=310, eos_ids=frozenset({2}))
    assert table is not None
    assert CALL_ID not in table.control_ids
    assert {0, 1, 2, CALL_ID + 1} == set(table.control_ids)


TEMPLATES = {
    "": "{% for m in messages %}{{ m.content }} tools <tool_call>{% endfor %}",
    "hermes": HERMES_TEMPLATE,
    "granite": "{% if tools %}{{ tools | tojson }}{% endif %}<|tool_call|>",
    "mistral": "{% if tools is not none %}[AVAILABLE_TOOLS]{{ tools }}{% endif %}[TOOL_CALLS]",
    "llama3_json": (
        "{% if not tools is defined %}{% set tools = none %}{% endif %}{% for t in tools %}{{ t | tojson(indent=4) }}"
        '{% endfor %}Respond in the format {"name": function name, "parameters": dictionary}.'
    ),
    "pythonic": "{{ tools | tojson }} [func_name1(params_name1=params_value1), func_name2(params)]",
    "json": "{{ tools | tojson }}",
}


@pytest.mark.parametrize("expected", TEMPLATES)
def test_the_format_is_read_off_the_template(expected: str) -> None:
    assert tool_format_of(TEMPLATES[expected]) == expected


def test_the_setting_overrides_the_template() -> None:
    assert tool_format_of(None) == ""
    assert tool_format_of(None, "mistral") == "mistral"
    assert tool_format_of(HERMES_TEMPLATE, "none") == ""
    assert tool_format_of("{{ tools }}<tool_call><function=f>") == "json"
    for name in ("auto", "none", *FORMATS):
        WorkerSettings.model_validate({"model_dir": "x", "tool_format": name})


def test_a_template_that_does_not_compile_is_named() -> None:
    with pytest.raises(BadModel, match=r"chat_template\.jinja"):
        tool_format_of("{% if tools %}")
