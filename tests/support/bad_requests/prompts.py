"""Prompts and conversations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.support.bad_requests.row import EMPTY, LARGE, MALFORMED, TOKEN, Row, Said, row
from tests.support.demo_cluster import CONTEXT, VOCABULARY

__all__ = ["prompts"]


def prompts() -> Iterator[Row]:
    """B03, B04, B06, B07, B21."""
    yield from _lists()
    yield from _empty()
    yield from _messages()
    for count in (CONTEXT, CONTEXT + 1, 100_000):
        ids = [9] * count
        yield row(
            "B06",
            f"a prompt of {count} tokens",
            "PROMPT_TOO_LONG",
            proto=({"token_ids": {"ids": ids}}, "token_ids.ids"),
            text=({"prompt": ids}, "prompt"),
        )
    yield _text(
        "B06", "a text beyond the context", "one two three " * 5000, "PROMPT_TOO_LONG", "input"
    )
    yield _text("B21", "a prompt of 3 MB", "x" * 3_000_000, LARGE, "text")


def _lists() -> Iterator[Row]:
    for count in (17, 100_000):
        yield row("B03", f"{count} prompts", LARGE, text=({"prompt": ["a"] * count}, "prompt"))
    for prompt in ([["a"]], [[[1]]], [1, "a"], [True], [1.5], {"a": 1}, 7):
        yield row("B03", f"the prompt {prompt!r}", MALFORMED, text=({"prompt": prompt}, "prompt"))
    for ids in ([VOCABULARY], [1, 2**31], [2**32 - 1]):
        yield row(
            "B04",
            f"the prompt ids {ids}",
            TOKEN,
            proto=({"token_ids": {"ids": ids}}, f"token_ids.ids[{len(ids) - 1}]"),
            text=({"prompt": ids}, "prompt"),
        )


def _empty() -> Iterator[Row]:
    yield row(
        "B07",
        "an empty prompt",
        EMPTY,
        proto=({"text": ""}, "text"),
        text=({"prompt": ""}, "prompt"),
        kserve=({"text": ""}, "inputs[0]"),
    )
    yield row(
        "B07",
        "no ids",
        EMPTY,
        proto=({"token_ids": {}}, "token_ids.ids"),
        text=({"prompt": []}, "prompt"),
    )
    yield row("B07", "no messages", EMPTY, proto=_chat([]), chat=({"messages": []}, "messages"))


def _messages() -> Iterator[Row]:
    many = [{"role": "user", "content": "a"}] * 257
    yield row(
        "B07",
        "257 messages",
        LARGE,
        proto=_chat([{"role": "ROLE_USER", "content": "a"}] * 257),
        chat=({"messages": many}, "messages"),
    )
    yield row(
        "B07",
        "an unknown role",
        MALFORMED,
        websocket=_chat([{"role": "ROOT", "content": "a"}], "[0].role"),
        chat=({"messages": [{"role": "root", "content": "a"}]}, "messages[0].role"),
    )
    yield row(
        "B07",
        "a role that no number has",
        MALFORMED,
        proto=_chat([{"role": 99, "content": "a"}], "[0].role"),
    )
    for content, where in (
        (7, ""),
        ({"a": 1}, ""),
        (True, ""),
        ([7], "[0]"),
        ([{"type": "text", "text": 7}], "[0].text"),
    ):
        yield row(
            "B07",
            f"the content {content!r}",
            MALFORMED,
            websocket=_chat([{"role": "ROLE_USER", "content": content}], "[0].content"),
            chat=(
                {"messages": [{"role": "user", "content": content}]},
                f"messages[0].content{where}",
            ),
        )


def _text(id_: str, about: str, text: str, reason: str, field: str) -> Row:
    return row(
        id_,
        about,
        reason,
        proto=({"text": text}, field),
        chat=({"messages": [{"role": "user", "content": text}]}, "messages"),
        text=({"prompt": text}, "prompt"),
        kserve=({"text": text}, "inputs[0]"),
    )


def _chat(messages: list[dict[str, Any]], where: str = "") -> Said:
    return {"chat": {"messages": messages}}, f"chat.messages{where}"
