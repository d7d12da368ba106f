"""Real Lepton processes for the end-to-end suite: started as an operator would, observed from outside.

Everything waits for conditions with a bound; nothing sleeps for a guess.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from lepton.v1 import inference_pb2, types_pb2
from lepton.v1.inference_pb2_grpc import InferenceServiceStub
from tests.support.patience import PATIENCE_S

__all__ = ["LOCAL", "ROOT", "Answer", "LeptonProcess", "ask", "until", "user"]

ROOT = Path(__file__).resolve().parents[2]
LOCAL = "127.0.0.1"
DEMO_MODEL = ROOT / "models" / "demo"


async def until(
    condition: Callable[[], Awaitable[bool] | bool], *, within_s: float = PATIENCE_S, what: str
) -> None:
    """Returns when `condition` holds; fails with `what` after `within_s`."""
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        holds = condition()
        if not isinstance(holds, bool):
            holds = await holds
        if holds:
            return
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what}")
        await asyncio.sleep(0.02)  # noqa: TID251 - polling a process from outside


@dataclass(slots=True)
class LeptonProcess:
    """One process and every line it wrote. `module` is `router` or `worker`."""

    module: str
    flags: Mapping[str, object]
    env: Mapping[str, str] = field(default_factory=dict)
    process: asyncio.subprocess.Process | None = None
    lines: list[str] = field(default_factory=list)
    ready: dict[str, Any] = field(default_factory=dict)
    _reader: asyncio.Task[None] | None = None

    async def start(self, *, wait: bool = True) -> LeptonProcess:
        """Starts it and, by default, waits for its `process.ready` event."""
        flags = dict(self.flags)
        if self.module in {"router", "gateway"}:  # many of them run at once on one machine
            flags.setdefault("gateway.port", 0)
        arguments = [
            text
            for key, value in flags.items()
            for text in (f"--{key.replace('_', '-')}", str(value))
        ]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LEPTON_", "OTEL_"))}
        self.lines.clear()
        self.ready = {}
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self.module,
            *arguments,
            cwd=ROOT,
            env={**kept, "LEPTON_TELEMETRY_LOG_FORMAT": "json", **self.env},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reader = asyncio.ensure_future(self._read())
        if wait:
            await until(
                lambda: bool(self.ready) or self._exited(),
                what=f"{self.module} ready",
            )
            assert self.ready, f"{self.module} ended at start:\n" + "\n".join(self.lines[-20:])
        return self

    async def _read(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        async for raw in self.process.stdout:
            line = raw.decode(errors="replace").rstrip()
            self.lines.append(line)
            with contextlib.suppress(json.JSONDecodeError):
                event = json.loads(line)
                if isinstance(event, dict) and event.get("event") == "process.ready":
                    self.ready = event

    def _exited(self) -> bool:
        return self.process is not None and self.process.returncode is not None

    @property
    def address(self) -> str:
        """host:port of its gRPC server, from the ready event."""
        return str(self.ready["address"])

    @property
    def http_address(self) -> str:
        """host:port of its HTTP door."""
        return str(self.ready["http_address"])

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        assert self.process is not None
        self.process.kill()

    def terminate(self) -> None:
        """SIGTERM, as an operator would."""
        assert self.process is not None
        self.process.terminate()

    async def wait(self, within_s: float = PATIENCE_S) -> int:
        """The exit code."""
        assert self.process is not None
        assert self._reader is not None
        code = await asyncio.wait_for(self.process.wait(), within_s)
        await self._reader
        return code

    async def stop(self) -> None:
        """Ends it whatever state it is in."""
        if self.process is None:
            return
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self.process.wait(), 15)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
        if self._reader is not None:
            await self._reader


@dataclass(slots=True)
class Answer:
    """One Generate as the client saw it."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    worker_id: str = ""
    seqs: list[int] = field(default_factory=list)
    finished: inference_pb2.Finished | None = None
    error: grpc.aio.AioRpcError | None = None
    migrations: int = 0

    @property
    def whole(self) -> bool:
        """One terminal event, no error, no gap in `seq`."""
        return (
            self.error is None
            and self.finished is not None
            and self.seqs == list(range(len(self.seqs)))
        )


def user(text: str, **stop: Any) -> inference_pb2.GenerateRequest:
    """A chat request with one user message; keywords go to `StopConditions`."""
    return inference_pb2.GenerateRequest(
        chat=types_pb2.ChatInput(
            messages=[types_pb2.ChatMessage(role=types_pb2.ROLE_USER, content=text)]
        ),
        stop=types_pb2.StopConditions(**stop),
    )


async def ask(
    channel: grpc.aio.Channel,
    request: inference_pb2.GenerateRequest,
    *,
    deadline_s: float = 60.0,
    metadata: tuple[tuple[str, str], ...] = (),
    on_event: Callable[[inference_pb2.Event], None] | None = None,
) -> Answer:
    """Runs one Generate to its end, whatever the end is."""
    answer = Answer()
    call = InferenceServiceStub(channel).Generate(request, timeout=deadline_s, metadata=metadata)
    try:
        async for event in _events(call):
            answer.seqs.append(event.seq)
            kind = event.WhichOneof("kind")
            if kind == "started":
                answer.worker_id = event.started.worker_id
            elif kind == "delta":
                answer.text += event.delta.text
                answer.token_ids.extend(event.delta.token_ids)
            elif kind == "migrated":
                answer.migrations += 1
            elif kind == "finished":
                assert answer.finished is None, "two terminal events"
                answer.finished = event.finished
            if on_event is not None:
                on_event(event)
    except grpc.aio.AioRpcError as error:
        answer.error = error
    return answer


async def _events(call: Any) -> AsyncIterator[inference_pb2.Event]:
    async for response in call:
        for event in response.events:
            yield event
