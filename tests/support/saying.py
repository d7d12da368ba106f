"""A whole cluster whose model says what a test wants, byte by byte: a real router, a real worker, a runner that plays.

async with saying_cluster([b"first", b"second"]) as cluster:
    …ask anything with the prompt `asks_for(1)`…          # the answer is "second"
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import grpc
from opentelemetry.sdk.trace import TracerProvider

from common.clock import SystemClock
from common.discovery.memory import MemoryRegistry
from gateway.settings import GatewaySettings
from router.app import Config, running
from router.settings import RouterSettings
from tests.support.demo_cluster import MODEL, DemoCluster, is_ready
from tests.support.fake_runner import FakeRunner
from tests.support.processes import until
from tests.support.worker import worker_of
from worker.engine.sequence import Sequence as EngineSequence
from worker.tasks.api import ModelFacts

__all__ = ["asks_for", "saying_cluster"]

_EOS: Final = 256
"""No byte."""
_CONTEXT: Final = 8192
_ASKED: Final = re.compile(rb"say (\d+)")


def asks_for(number: int) -> str:
    """A prompt, of a text or in a chat, whose answer is that script; any other one is answered with the first."""
    return f"say {number}"


@asynccontextmanager
async def saying_cluster(
    scripts: Sequence[bytes], *, tool_format: str = ""
) -> AsyncIterator[DemoCluster]:
    """Its model is called as that of `demo_cluster`, so that every open door of `doors_of` works."""

    def token(sequence: EngineSequence, position: int) -> int:
        asked = _ASKED.search(bytes(sequence.prompt_ids))
        script = scripts[int(asked[1]) if asked else 0]
        return script[position] if position < len(script) else _EOS

    registry = MemoryRegistry()
    facts = ModelFacts(
        name=MODEL,
        revision="0123456789abcdef" * 4,
        context_length=_CONTEXT,
        vocab_size=_EOS + 1,
        eos_ids=frozenset({_EOS}),
        fingerprint="fake",
        tool_format=tool_format,
    )
    config = Config(router=RouterSettings(port=0, metrics_port=0), gateway=GatewaySettings(port=0))
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    runner = FakeRunner(num_slots=4, capacity=_CONTEXT, tokens=token)
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(worker_of(runner, model=facts, found_in=registry))
        router = await stack.enter_async_context(
            running(config, watcher=registry, tracer=tracer, clock=SystemClock())
        )
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(f"127.0.0.1:{router.port}")
        )
        await until(lambda: is_ready(router), what="a ready worker")
        yield DemoCluster(worker=worker, router=router, channel=channel)
