"""B27, B36: whatever a model says, every door carries it as it is, and nobody takes it for anything but an answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.support.demo_cluster import DemoCluster
from tests.support.doors import DOORS, Answered, Doors, doors_of
from tests.support.saying import asks_for, saying_cluster
from tests.support.sse import DONE, sse_events

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOOL = '<tool_call>\n{"name": "add", "arguments": %s}\n</tool_call>'
SAID: Mapping[str, bytes] = {
    "nothing": b"",
    "events": b"x\n\ndata: [DONE]\n\nevent: error\r\rid: 7\n\n: y\r\n\r\n",
    "an end of JSON": b'"}]}\n\n{"choices":[]}\\u0000\\"\\',
    "an error": b'data: {"error": {"message": "no", "code": "internal"}}\n\n',
    "messages of a socket": b'{"type":"end","id":"1"}{"type":"error","id":"1","error":{}}',
    "lines of a log": b'a\r\n{"level":"error","event":"x"}\n\x1b[2J\x1b]0;x\x07\x00\x7f',
    "separators and marks": "\u2028\u2029\ufeff\u202e\u0085\u200b🙂\U0010ffff".encode(),
    "no UTF-8": b"a\xff\xc3(\xed\xa0\x80\xf0\x9f\x99",
    "a page": b"</script><img src=x onerror=alert(1)>&lt;",
    "control tokens": b"<|im_end|>\n<|im_start|>system\n</s>",
    "brackets": b"[" * 3000,
    "beginnings of calls": b"<tool_call>" * 200,
    "a call that does not end": TOOL.encode()[:40],
    "a call of nobody": TOOL.replace("add", "rm").encode() % b"{}",
    "arguments that are a list": TOOL.encode() % b"[1, 2]",
    "arguments that are no JSON": TOOL.encode() % b"{a: 1,}",
    "arguments with half a character": TOOL.encode() % b'{"a": "\\ud800"}',
    "arguments with a call inside": TOOL.encode() % b'{"a": "</tool_call><tool_call>"}',
    "arguments with events inside": TOOL.encode() % b'{"a": "\\n\\ndata: [DONE]\\n\\n"}',
    "arguments 100 deep": TOOL.encode() % (b'{"a":' * 100 + b"1" + b"}" * 100),
    "arguments of 4 KB": TOOL.encode() % (b'{"a": "' + b"x" * 4000 + b'"}'),
    "a name of 4 KB": TOOL.replace("add", "a" * 4000).encode() % b"{}",
    "twenty calls": (TOOL.encode() % b'{"a": 1}') * 20,
}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "add", "parameters": {"type": "object", "properties": {}}},
    }
]
LONGEST = 6000


@pytest_asyncio.fixture(name="cluster", scope="module", loop_scope="module")
async def _cluster() -> AsyncIterator[DemoCluster]:
    async with saying_cluster(list(SAID.values()), tool_format="hermes") as cluster:
        yield cluster


@pytest_asyncio.fixture(name="doors", scope="module", loop_scope="module")
async def _doors(cluster: DemoCluster) -> AsyncIterator[Doors]:
    async with doors_of(cluster) as doors:
        yield doors


def _asked(door: str, prompt: str) -> dict[str, Any]:
    if door in ("gRPC", "WebSocket"):
        return {"text": prompt, "stop": {"max_tokens": LONGEST}}
    if door.startswith("KServe"):
        return {"text": prompt, "parameters": {"max_tokens": LONGEST}}
    if door.startswith("chat"):
        return {"messages": [{"role": "user", "content": prompt}], "max_tokens": LONGEST}
    return {"prompt": prompt, "max_tokens": LONGEST}


@pytest.mark.parametrize("name", SAID)
@pytest.mark.parametrize("door", DOORS)
async def test_every_door_carries_it_as_it_is(doors: Doors, door: str, name: str) -> None:
    """Bytes that are no UTF-8 become U+FFFD in the worker: all doors say the same."""
    prompt = asks_for(list(SAID).index(name))
    answer = await DOORS[door](doors, _asked(door, prompt))
    assert isinstance(answer, Answered), answer
    assert answer.text == SAID[name].decode("utf-8", "replace")


@pytest.mark.parametrize("name", SAID)
async def test_a_call_is_one_or_text(cluster: DemoCluster, name: str) -> None:
    """With tools on offer: a call is of one of them, its arguments are an object or break off, and a stream says the
    same.
    """
    body = {**_asked("chat", asks_for(list(SAID).index(name))), "tools": TOOLS}
    url = f"{cluster.http}/v1/chat/completions"
    async with aiohttp.ClientSession() as session:
        async with session.post(url, json=body) as answered:
            assert answered.status == 200
            (choice,) = (await answered.json())["choices"]
        async with session.post(url, json={**body, "stream": True}) as answered:
            events = [event async for event in sse_events(answered)]
    assert [event.data for event in events].count(DONE) == 1
    assert events.pop().data == DONE
    content, calls = choice["message"]["content"], choice["message"].get("tool_calls", [])
    streamed, streamed_calls = _joined([event.json for event in events])
    assert streamed == (content or "")
    assert streamed_calls == [
        (call["function"]["name"], call["function"]["arguments"]) for call in calls
    ]
    said = SAID[name].decode("utf-8", "replace")
    if not calls:
        assert content == said
    for number, (called, arguments) in enumerate(streamed_calls, 1):
        assert called == "add"
        if _is_object(arguments):
            continue
        assert number == len(calls)
        assert arguments + content in said, "what was told of it, and the rest as text"


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _joined(chunks: list[Any]) -> tuple[str, list[tuple[str, str]]]:
    """What a client makes of a stream: its text, and the name and arguments of each call."""
    text, calls = "", {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
            for piece in choice["delta"].get("tool_calls", ()):
                name, arguments = calls.get(piece["index"], ("", ""))
                said = piece["function"]
                calls[piece["index"]] = (
                    name + said.get("name", ""),
                    arguments + said.get("arguments", ""),
                )
    return text, [calls[index] for index in sorted(calls)]
