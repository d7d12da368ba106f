"""The same question at every door, and what each answers: tokens, or a verdict that can be compared.

gRPC and WebSocket take a GenerateRequest in protobuf's JSON form, REST a body of the OpenAI dialect, whole and
streamed, KServe a set of parameters, over gRPC and HTTP.
"""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, final

import aiohttp
import grpc
from google.protobuf import json_format

from common.errors import LeptonError, Reason
from common.rpc.caller import caller_metadata
from common.rpc.status import codes_of, from_rpc_error
from lepton.kserve.v2 import open_inference_pb2 as pb
from lepton.v1 import inference_pb2
from tests.support.demo_cluster import MODEL, DemoCluster
from tests.support.patience import PATIENCE_S
from tests.support.sse import DONE, sse_events
from tests.support.worker import GENERATE

__all__ = ["DOORS", "INFER", "Answered", "Doors", "Refusal", "doors_of"]

INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
_TIMEOUT: Final = aiohttp.ClientTimeout(total=PATIENCE_S)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What programs are told of an error, alike on every door."""

    code: str
    """Name of the gRPC status, or the HTTP status: of the error's class."""
    reason: str
    field: str | None

    @classmethod
    def expected(
        cls, kind: type[LeptonError], reason: str, field: str | None, *, is_http: bool
    ) -> Refusal:
        """How `kind` looks on a door."""
        codes = codes_of(kind("", reason=Reason(reason)))
        return cls(str(codes.http) if is_http else codes.grpc.name, reason, field)


@dataclass(frozen=True, slots=True)
class Answered:
    """The first choice of a whole answer."""

    text: str
    prompt_tokens: int


Verdict = Answered | Refusal


@final
class Doors:
    """Open doors of one cluster."""

    def __init__(
        self,
        cluster: DemoCluster,
        http: aiohttp.ClientSession,
        socket: aiohttp.ClientWebSocketResponse,
        *,
        caller: str = "",
    ) -> None:
        self._cluster = cluster
        self._metadata = caller_metadata(caller)
        self._http = http
        self._socket = socket
        self._num_asked = 0

    async def grpc(self, asked: Mapping[str, Any] | inference_pb2.GenerateRequest) -> Verdict:
        request = asked if isinstance(asked, inference_pb2.GenerateRequest) else _message(asked)
        call: Any = self._cluster.channel.unary_stream(GENERATE)(
            request.SerializeToString(), timeout=PATIENCE_S, metadata=self._metadata
        )
        texts, prompt_tokens = [], 0
        try:
            async for data in call:
                for event in inference_pb2.GenerateResponse.FromString(data).events:
                    if event.delta.index == 0:
                        texts.append(event.delta.text)
                    prompt_tokens = event.finished.usage.prompt_tokens
        except grpc.aio.AioRpcError as error:
            return _refusal(error)
        return Answered("".join(texts), prompt_tokens)

    async def websocket(self, asked: Mapping[str, Any]) -> Verdict:
        self._num_asked += 1
        name = str(self._num_asked)
        await self._socket.send_str(json.dumps({"type": "start", "id": name, "request": asked}))
        texts, prompt_tokens = [], 0
        while True:
            told = await self._socket.receive_json(timeout=PATIENCE_S)
            assert told["id"] == name
            if told["type"] == "end":
                return Answered("".join(texts), prompt_tokens)
            if told["type"] == "error":
                error = told["error"]
                return Refusal(error["code"], error["reason"], error["field"])
            for event in told.get("events") or [told["event"]]:
                delta = event.get("delta", {"index": 0})
                if delta["index"] == 0:
                    texts.append(delta.get("text", ""))
                finished = event.get("finished", {})
                prompt_tokens = finished.get("usage", {}).get("prompt_tokens", prompt_tokens)

    async def chat(self, asked: Mapping[str, Any]) -> Verdict:
        return await self._whole("/v1/chat/completions", {"messages": _HELLO, **asked})

    async def chat_stream(self, asked: Mapping[str, Any]) -> Verdict:
        return await self._stream("/v1/chat/completions", {"messages": _HELLO, **asked})

    async def text(self, asked: Mapping[str, Any]) -> Verdict:
        return await self._whole("/v1/completions", {"prompt": "hello", **asked})

    async def text_stream(self, asked: Mapping[str, Any]) -> Verdict:
        return await self._stream("/v1/completions", {"prompt": "hello", **asked})

    async def kserve_http(self, asked: Mapping[str, Any]) -> Verdict:
        body = {
            "inputs": [
                {
                    "name": "text_input",
                    "datatype": "BYTES",
                    "shape": [1],
                    "data": [asked.get("text", "hello")],
                }
            ],
            "parameters": asked.get("parameters", {}),
        }
        url = f"/v2/models/{MODEL}/infer"
        async with self._post(url, body) as answered:
            told = await answered.json()
            if answered.status != 200:
                assert isinstance(told["error"], str)
                return Refusal(str(answered.status), told["reason"], told["field"])
            return Answered(told["outputs"][0]["data"][0], int(told["parameters"]["prompt_tokens"]))

    async def kserve_grpc(self, asked: Mapping[str, Any]) -> Verdict:
        request = pb.ModelInferRequest(model_name=MODEL)
        tensor = request.inputs.add(name="text_input", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(asked.get("text", "hello").encode())
        for name, value in asked.get("parameters", {}).items():
            kind = {bool: "bool_param", float: "double_param", str: "string_param"}.get(type(value))
            kind = kind or ("int64_param" if value < 1 << 63 else "uint64_param")
            setattr(request.parameters[name], kind, value)
        try:
            call: Any = self._cluster.channel.unary_unary(INFER)
            data = await call(
                request.SerializeToString(), timeout=PATIENCE_S, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as error:
            return _refusal(error)
        told = pb.ModelInferResponse.FromString(data)
        return Answered(
            told.outputs[0].contents.bytes_contents[0].decode(),
            told.parameters["prompt_tokens"].int64_param,
        )

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        data = io.BytesIO(json.dumps(body).encode())  # large ones as bytes make aiohttp warn
        return self._http.post(path, data=data, headers={"content-type": "application/json"})

    async def _whole(self, path: str, body: Mapping[str, Any]) -> Verdict:
        async with self._post(path, body) as answered:
            told = await answered.json()
            if answered.status != 200:
                return _rest_refusal(answered.status, told)
        choice = told["choices"][0]
        said = choice["text"] if "text" in choice else choice["message"]["content"]
        return Answered(said, told["usage"]["prompt_tokens"])

    async def _stream(self, path: str, body: Mapping[str, Any]) -> Verdict:
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        async with self._post(path, asked) as answered:
            if answered.status != 200:
                return _rest_refusal(answered.status, await answered.json())
            events = [event async for event in sse_events(answered) if not event.comment]
        *chunks, usage, done = events
        assert done.data == DONE
        text = "".join(chunk.text for chunk in chunks)
        return Answered(text, usage.json["usage"]["prompt_tokens"])


_HELLO: Final = [{"role": "user", "content": "hello"}]


DOORS: Final[Mapping[str, Callable[[Doors, Mapping[str, Any]], Awaitable[Verdict]]]] = {
    "gRPC": Doors.grpc,
    "WebSocket": Doors.websocket,
    "chat": Doors.chat,
    "chat, streamed": Doors.chat_stream,
    "completions": Doors.text,
    "completions, streamed": Doors.text_stream,
    "KServe": Doors.kserve_http,
    "KServe, gRPC": Doors.kserve_grpc,
}
"""Name → how to ask there."""


@asynccontextmanager
async def doors_of(cluster: DemoCluster, *, caller: str = "") -> AsyncIterator[Doors]:
    """One HTTP client, one socket, one channel, all on behalf of `caller`."""
    headers = dict(caller_metadata(caller))
    async with (
        aiohttp.ClientSession(cluster.http, timeout=_TIMEOUT, headers=headers) as http,
        http.ws_connect("/v1/ws", max_msg_size=0) as socket,
    ):
        yield Doors(cluster, http, socket, caller=caller)


def _message(asked: Mapping[str, Any]) -> inference_pb2.GenerateRequest:
    return json_format.ParseDict(_wired(asked), inference_pb2.GenerateRequest())


def _wired(asked: Mapping[str, Any]) -> dict[str, Any]:
    """ParseDict wants lists, dicts and texts; a mapping may be ours."""
    found: dict[str, Any] = json.loads(json.dumps(asked))
    return found


def _refusal(error: grpc.aio.AioRpcError) -> Refusal:
    typed = from_rpc_error(error)
    assert "Traceback" not in typed.message
    return Refusal(error.code().name, typed.reason.value, typed.field)


def _rest_refusal(status: int, told: Mapping[str, Any]) -> Refusal:
    error = told["error"]
    assert "Traceback" not in error["message"]
    return Refusal(str(status), error["code"].upper(), error["param"])
