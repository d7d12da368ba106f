"""A closed loop: so many callers, each asks again as soon as its answer is whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from cli.bench.measure import Sample, measure
from cli.client import Client
from cli.request import GenerateOptions, build_request, chat_message
from common.clock import Clock
from common.errors import LeptonError, Unavailable

__all__ = ["PROMPTS", "Load", "check_reachable", "run_load"]

PROMPTS: Final = (
    "What is Lepton?",
    "What is 17 + 25?",
    "What does the router do?",
    "Is this sentence positive or negative: The food was wonderful.",
    "What does etcd do?",
    "What is 64 - 28?",
)
"""Asked in turn when nothing else is said."""

_CALLERS_PER_CHANNEL: Final = 16
"""One connection carries at most about a hundred streams, and one asyncio reader is a bottleneck before that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to send."""

    requests: int
    """How many in all."""
    concurrency: int
    """How many at the same time."""
    prompts: Sequence[str] = PROMPTS
    options: GenerateOptions
    raw: bool = False
    """Prompts are continued as they are, without chat template."""
    timeout_s: float = 120.0
    """Deadline of each request, seconds."""


async def check_reachable(address: str) -> None:
    """Raises `Unavailable` when nobody answers there, or nothing can be asked."""
    async with Client(address) as client:
        if not await client.list_models():
            raise Unavailable(f"{address} serves no model now")


async def run_load(
    address: str, load: Load, clock: Clock, *, on_sample: Callable[[Sample], None]
) -> tuple[list[Sample], float]:
    """Sends everything; returns the samples in the order in which they ended, and how long it took, seconds.

    A request that fails is a sample with an error; only a client that cannot be made raises (`LeptonError`).
    """
    samples: list[Sample] = []
    numbers = iter(range(load.requests))
    callers = min(load.concurrency, load.requests)
    async with AsyncExitStack() as stack:
        channels = -(-callers // _CALLERS_PER_CHANNEL)
        clients = [await stack.enter_async_context(Client(address)) for _ in range(channels)]
        await _connect(clients)
        began = clock.now()
        async with asyncio.TaskGroup() as tasks:
            for index in range(callers):
                client = clients[index % channels]
                tasks.create_task(_caller(client, load, numbers, samples, clock, on_sample))
        took_s = clock.now() - began
    return samples, took_s


async def _caller(
    client: Client,
    load: Load,
    numbers: Iterator[int],
    samples: list[Sample],
    clock: Clock,
    on_sample: Callable[[Sample], None],
) -> None:
    for number in numbers:
        text = load.prompts[number % len(load.prompts)]
        prompt = text if load.raw else [chat_message("user", text)]
        request = build_request(prompt, load.options)
        sample = await measure(client, request, clock, timeout_s=load.timeout_s)
        samples.append(sample)
        on_sample(sample)


async def _connect(clients: Sequence[Client]) -> None:
    """So that no sample holds the making of a connection."""
    for client in clients:
        try:
            await client.list_models()
        except LeptonError:
            return  # the samples will say it
