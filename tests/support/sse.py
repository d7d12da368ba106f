"""A client of server-sent events that sees the bytes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp

__all__ = ["DONE", "SseEvent", "sse_events"]

DONE = "[DONE]"


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event, or a comment."""

    data: str
    id: str = ""
    comment: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def text(self) -> str:
        """What the first choice says, of a chat or of a completion."""
        choices = self.json["choices"]
        if not choices:
            return ""
        return choices[0].get("text") or choices[0].get("delta", {}).get("content") or ""


async def sse_events(response: aiohttp.ClientResponse) -> AsyncIterator[SseEvent]:
    """By the letter of the standard: fields by lines, an empty line ends an event."""
    fields: dict[str, str] = {}
    async for raw in response.content:
        line = raw.decode().rstrip("\n")
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        if "data" in fields or "" in fields:
            yield SseEvent(fields.get("data", ""), fields.get("id", ""), fields.get("", ""))
        fields = {}
