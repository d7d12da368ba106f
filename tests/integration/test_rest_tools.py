"""Calls of tools through REST, whole and streamed: a real router and worker, a model that says what the test wants."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.support.demo_cluster import MODEL
from tests.support.saying import saying_cluster

SAID = (
    "<think>sum</think>Let me add.\n<tool_call>\n"
    '{"name": "add", "arguments": {"a": 17, "b": [2, "}"]}}\n</tool_call>'
)
ASK: Any = [{"role": "user", "content": "What is 17 + 25?"}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": "add", "parameters": {"type": "object", "properties": {}}},
    }
]


@asynccontextmanager
async def client_of(said: str, *, tool_format: str = "hermes") -> AsyncIterator[AsyncOpenAI]:
    """A client of a cluster whose model says `said` and stops."""
    async with (
        saying_cluster([said.encode()], tool_format=tool_format) as cluster,
        AsyncOpenAI(base_url=f"{cluster.http}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


async def test_a_whole_answer_with_a_call() -> None:
    async with client_of(SAID) as client:
        answer = await client.chat.completions.create(model=MODEL, messages=ASK, tools=TOOLS)
        (choice,) = answer.choices
        assert choice.finish_reason == "tool_calls"
        assert (choice.message.content or "").strip() == "Let me add."
        assert choice.message.tool_calls is not None
        (call,) = choice.message.tool_calls
        assert call.type == "function"
        assert call.function.name == "add"
        assert json.loads(call.function.arguments) == {"a": 17, "b": [2, "}"]}
        assert call.id
        again = [
            *ASK,
            choice.message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "42"},
        ]
        await client.chat.completions.create(model=MODEL, messages=again, tools=TOOLS)


async def test_a_streamed_call() -> None:
    async with client_of(SAID) as client:
        whole = await client.chat.completions.create(model=MODEL, messages=ASK, tools=TOOLS)
        async with client.chat.completions.stream(model=MODEL, messages=ASK, tools=TOOLS) as stream:
            num_parts = 0
            async for event in stream:
                num_parts += event.type == "tool_calls.function.arguments.delta"
            final = await stream.get_final_completion()
        (choice,) = final.choices
        assert choice.finish_reason == "tool_calls"
        assert choice.message.tool_calls is not None
        assert whole.choices[0].message.tool_calls is not None
        assert choice.message.content == whole.choices[0].message.content
        call = choice.message.tool_calls[0]
        assert call.function.arguments == whole.choices[0].message.tool_calls[0].function.arguments
        assert num_parts > 1, "they come as they are written"


async def test_without_tools_the_same_text_is_text() -> None:
    async with client_of(SAID) as client:
        answer = await client.chat.completions.create(model=MODEL, messages=ASK)
        assert answer.choices[0].finish_reason == "stop"
        assert "<tool_call>" in (answer.choices[0].message.content or "")


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"tool_choice": "always"}, "tool_choice", "field_malformed"),
        (
            {"tool_choice": {"type": "function", "function": {"name": "sub"}}},
            "tool_choice",
            "field_malformed",
        ),
        (
            {"tools": [{"type": "retrieval", "function": {"name": "x"}}]},
            "tools[0].type",
            "parameter_unsupported",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "a b"}}]},
            "tools[0].function.name",
            None,
        ),
    ],
)
async def test_what_is_wrong_with_tools_is_named(
    more: dict[str, Any], param: str, code: str | None
) -> None:
    async with client_of(SAID) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(
                **{"model": MODEL, "messages": ASK, "tools": TOOLS, **more}
            )
        assert refused.value.param == param
        assert code in (None, refused.value.code)


async def test_a_model_that_knows_no_tools_says_so() -> None:
    async with client_of("hi", tool_format="") as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model=MODEL, messages=ASK, tools=TOOLS)
        assert (refused.value.code, refused.value.param) == ("tools_unsupported", "tools")


@pytest.mark.parametrize(("tool_format", "listed"), [("hermes", "hermes"), ("", None)])
async def test_the_list_of_models_says_who_knows_tools(
    tool_format: str, listed: str | None
) -> None:
    async with client_of("hi", tool_format=tool_format) as client:
        (model,) = [one async for one in client.models.list()]
        assert model.model_extra is not None
        assert [one["tool_format"] for one in model.model_extra["lepton"]] == [listed]
