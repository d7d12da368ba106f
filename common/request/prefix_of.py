"""Prompt → `PromptPrefix`: what affinity may know of it, the same in routers and workers, whatever release.

What is hashed is the content as the caller sees it, not its serialised bytes, which may differ for the same content.
One hash stands for everything up to it, so that two prompts have in common the hashes of their common beginning: one
every 512 bytes within a text or a message (or every 128 token ids), one at the end of each message, one at the end.
Tools come before the messages. Adding a turn to a chat keeps all earlier ones. Before everything come the
caller's cache salt and the adapter. Not the model, which may be asked for by several names: who knows a beginning
is a worker, and a worker has one model.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final

from common.request.prompt_prefix import NO_PREFIX, PromptPrefix
from lepton.v1 import inference_pb2, types_pb2

__all__ = ["WINDOW_BYTES", "prefix_of"]

WINDOW_BYTES: Final = 512
_BORDER: Final = b"\xff"
"""Ends a name or a content: no UTF-8 has this byte."""
_ID_BYTES: Final = 4


def prefix_of(request: inference_pb2.GenerateRequest, hashes_max: int) -> PromptPrefix:
    """Of a valid request: at most `hashes_max` hashes, those of the shortest beginnings. None when the request bypasses
    the cache.
    """
    if request.cache.bypass or hashes_max <= 0:
        return NO_PREFIX
    state = blake2b(digest_size=8)
    kind = request.WhichOneof("input") or ""
    for part in (request.cache.salt, request.adapter, kind):
        state.update(part.encode() + _BORDER)
    hashes: list[int] = []
    ends: list[int] = []
    conversation = 0
    covered = 0
    for chunk, size, is_first_user in _chunks(request):
        if len(hashes) == hashes_max:
            return PromptPrefix(
                hashes=tuple(hashes), ends=tuple(ends), is_whole=False, conversation=conversation
            )
        state.update(chunk)
        covered += size
        hashes.append(int.from_bytes(state.digest(), "little"))
        ends.append(covered)
        if is_first_user:
            conversation = hashes[-1]
    return PromptPrefix(
        hashes=tuple(hashes), ends=tuple(ends), is_whole=True, conversation=conversation
    )


_Chunk = tuple[bytes, int, bool]
"""What to hash, how many bytes of prompt that is, and whether it ends the first message of a user."""


def _chunks(request: inference_pb2.GenerateRequest) -> Iterator[_Chunk]:
    kind = request.WhichOneof("input")
    if kind == "text":
        return _windows(request.text.encode())
    if kind == "chat":
        return _chat(request.chat)
    ids = array("I", request.token_ids.ids)
    if sys.byteorder == "big":
        ids.byteswap()
    return _windows(ids.tobytes())


def _windows(content: bytes) -> Iterator[_Chunk]:
    for start in range(0, len(content), WINDOW_BYTES):
        window = content[start : start + WINDOW_BYTES]
        yield window, len(window), False


def _chat(chat: types_pb2.ChatInput) -> Iterator[_Chunk]:
    if chat.tools:
        # First, as templates show them: requests with other tools have nothing in common.
        parts = (p for t in chat.tools for p in (t.name, t.description, t.parameters_json))
        yield from _part(b"tools", _joined(parts))
    seen_user = False
    for message in chat.messages:
        head = b"%d%b%b" % (message.role, message.name.encode(), _BORDER)
        content = message.content.encode()
        if message.tool_calls or message.tool_call_id:
            calls = (p for c in message.tool_calls for p in (c.id, c.name, c.arguments_json))
            content = _joined((message.content, message.tool_call_id, *calls))
        is_first_user = message.role == types_pb2.ROLE_USER and not seen_user
        seen_user = seen_user or is_first_user
        yield from _part(head, content, is_first_user=is_first_user)


def _part(head: bytes, content: bytes, *, is_first_user: bool = False) -> Iterator[_Chunk]:
    """One part of a chat in windows; the last one ends at a border."""
    last = (max(0, len(content) - 1) // WINDOW_BYTES) * WINDOW_BYTES
    for start in range(0, last, WINDOW_BYTES):
        yield head + content[start : start + WINDOW_BYTES], WINDOW_BYTES, False
        head = b""
    tail = content[last:]
    yield head + tail + _BORDER, len(tail), is_first_user


def _joined(texts: Iterable[str]) -> bytes:
    return _BORDER.join(text.encode() for text in texts)
