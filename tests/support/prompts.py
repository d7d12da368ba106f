"""Prompts as the router's affinity sees them."""

from __future__ import annotations

from lepton.v1 import inference_pb2, types_pb2
from router.core.call import RoutingView
from router.transport.view_of import view_of_generate

__all__ = ["chat_request", "view_of_chat", "view_of_text"]

ROLES = {
    "s": types_pb2.ROLE_SYSTEM,
    "u": types_pb2.ROLE_USER,
    "a": types_pb2.ROLE_ASSISTANT,
}


def chat_request(*turns: str, **fields: object) -> inference_pb2.GenerateRequest:
    """ "s:be kind", "u:hello", "a:hi" …"""
    messages = [
        types_pb2.ChatMessage(role=ROLES[turn[0]], content=turn.partition(":")[2]) for turn in turns
    ]
    request = inference_pb2.GenerateRequest(**{"model": "tiny", **fields})  # type: ignore[arg-type]
    request.chat.messages.extend(messages)
    return request


def view_of_chat(*turns: str, **fields: object) -> RoutingView:
    return view_of_generate(chat_request(*turns, **fields), prefix_hashes_max=128)


def view_of_text(*parts: str, **fields: object) -> RoutingView:
    text = "".join(parts)
    request = inference_pb2.GenerateRequest(model="tiny", text=text, **fields)  # type: ignore[arg-type]
    return view_of_generate(request, prefix_hashes_max=128)
