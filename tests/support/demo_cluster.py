"""One real router before one real worker with the demo model, all in the test's process: every door, real tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.sdk.trace import TracerProvider

from common.clock import SystemClock
from common.cluster import ClusterSettings
from common.discovery.memory import MemoryRegistry
from common.limits import Limits
from gateway.settings import GatewaySettings
from router.app import Router, running
from router.config import Config
from router.core.endpoint import EndpointState
from router.settings import RouterSettings
from tests.support.grammars import grammar_compiler
from tests.support.processes import DEMO_MODEL, until
from tests.support.tiny_models import load_tiny
from tests.support.worker import LocalWorker, worker_of
from worker.runtime.grammar.limits import GrammarLimits
from worker.runtime.grammar.tokens import token_table
from worker.runtime.tool_format import tool_format_of
from worker.tasks.api import ModelFacts

__all__ = ["CONTEXT", "MODEL", "SECRET", "VOCABULARY", "DemoCluster", "demo_cluster", "is_ready"]

MODEL = "tiny"
CONTEXT = 1024
VOCABULARY = 768
"""Token ids of the demo model are below it."""
SECRET = "open-sesame-7"
"""The cluster's token: nobody outside may ever read it."""


@dataclass(slots=True, kw_only=True)
class DemoCluster:
    """Handles of everything that runs."""

    worker: LocalWorker
    router: Router
    channel: grpc.aio.Channel

    @property
    def http(self) -> str:
        """http://host:port of the HTTP door."""
        return f"http://127.0.0.1:{self.router.ports.http}"


@asynccontextmanager
async def demo_cluster(
    *,
    gateway: GatewaySettings | None = None,
    limits: Limits | None = None,
    **router: Any,
) -> AsyncIterator[DemoCluster]:
    """`router` are settings of that section."""
    registry, limits = MemoryRegistry(), limits or Limits()
    loaded = load_tiny(DEMO_MODEL, context_max=CONTEXT)
    info = loaded.info
    assert info.vocab_size == VOCABULARY
    table = token_table(
        loaded.tokenizer.vocabulary, vocab_size=info.vocab_size, eos_ids=info.eos_ids
    )
    config = Config(
        router=RouterSettings(port=0, metrics_port=0, load_interval_ms=20, sweep_s=0.02, **router),
        cluster=ClusterSettings.model_validate({"token": SECRET}),
        limits=limits,
        gateway=gateway or GatewaySettings(port=0),
    )
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(
            worker_of(
                loaded.runner,
                model=ModelFacts(
                    name=MODEL,
                    revision=info.revision,
                    context_length=info.context_length,
                    vocab_size=info.vocab_size,
                    eos_ids=info.eos_ids,
                    fingerprint=info.fingerprint,
                    tool_format=tool_format_of(loaded.chat_template),
                ),
                tokenizer=loaded.tokenizer,
                grammars=grammar_compiler(table, GrammarLimits(compile_s_max=0.5)),
                found_in=registry,
                token=SECRET,
                limits=limits,
            )
        )
        router_ = await stack.enter_async_context(
            running(
                config,
                watcher=registry,
                tracer=TracerProvider(shutdown_on_exit=False).get_tracer("test"),
                clock=SystemClock(),
            )
        )
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(f"127.0.0.1:{router_.port}")
        )
        await until(lambda: is_ready(router_), what="a ready worker")
        yield DemoCluster(worker=worker, router=router_, channel=channel)


def is_ready(router: Router) -> bool:
    """Whether a worker takes calls."""
    models = router.pool.snapshot().models.values()
    return any(e.state is EndpointState.READY for endpoints in models for e in endpoints)
