"""A client of `/v1/ws` made with another library than the server's; it checks every message against the schema.

async with socket_of(router.ports.http) as socket:
    await socket.say(type="start", id="a", request={"text": "hello"})
    assert (await socket.until_ended("a")) == {"type": "end", "id": "a"}
    assert socket.text("a") == "…"
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib import resources
from typing import Any, Final

import aiohttp
import jsonschema
from google.protobuf import json_format

from lepton.v1 import inference_pb2
from tests.support.patience import PATIENCE_S

__all__ = ["SCHEMA", "SocketClient", "checked", "socket_of", "validator_of"]

SCHEMA: Final = json.loads(
    resources.files("gateway.websocket").joinpath("schema.json").read_text("utf-8")
)


def checked(side: str, message: Any) -> Any:
    """`side` is `ClientMessage` or `ServerMessage`."""
    validator_of(side).validate(message)
    return message


@cache
def validator_of(name: str) -> Any:
    """Of one definition of the schema."""
    return jsonschema.Draft202012Validator({**SCHEMA, "oneOf": [{"$ref": f"#/$defs/{name}"}]})


class SocketClient:
    """What came, by id."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.events: dict[str, list[inference_pb2.Event]] = {}
        self.ended: dict[str, dict[str, Any]] = {}
        self.faults: list[dict[str, Any]] = []
        self.num_pongs = 0

    async def say(self, **message: Any) -> None:
        await self.socket.send_str(json.dumps(message))

    async def read(self) -> bool:
        """Takes one message; False when the socket is closed."""
        async with asyncio.timeout(PATIENCE_S):
            came = await self.socket.receive()
        if came.type is not aiohttp.WSMsgType.TEXT:
            return False
        message = checked("ServerMessage", json.loads(came.data))
        if message["type"] == "pong":
            self.num_pongs += 1
            return True
        if message["type"] == "fault":
            self.faults.append(message["error"])
            return True
        name = message["id"]
        assert name not in self.ended, f"after the end: {message}"
        if message["type"] == "event":
            for event in message.get("events") or [message["event"]]:
                parsed = json_format.ParseDict(event, inference_pb2.Event())
                self.events.setdefault(name, []).append(parsed)
        else:
            self.ended[name] = message
        return True

    async def until_ended(self, name: str) -> dict[str, Any]:
        while name not in self.ended:
            assert await self.read(), f"closed with {self.socket.close_code}"
        return self.ended[name]

    async def until_closed(self) -> int | None:
        while await self.read():
            pass
        return self.socket.close_code

    async def until_text(self, name: str, num_chars: int) -> None:
        while len(self.text(name)) < num_chars:
            assert await self.read(), f"closed with {self.socket.close_code}"

    def text(self, name: str) -> str:
        return "".join(event.delta.text for event in self.events.get(name, ()))

    def seqs(self, name: str) -> list[int]:
        return [event.seq for event in self.events.get(name, ())]

    def token(self, name: str) -> str:
        return self.events[name][0].started.resume_token


@asynccontextmanager
async def socket_of(port: int, **options: Any) -> AsyncIterator[SocketClient]:
    options = {"protocols": ["lepton.v1"], **options}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{port}/v1/ws", **options) as socket,
    ):
        yield SocketClient(socket)
