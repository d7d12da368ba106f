"""One way: a cluster of its own, the questions in an open loop over all its routers, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import fmean
from typing import Final

from chaos.cluster import MODEL, ClusterWish, chaos_cluster
from cli.client import Client
from common.clock import Clock
from common.errors import LeptonError
from lepton.v1 import inference_pb2, types_pb2
from loadtest.prefix.questions import CACHE_MIB, Question, cacheable_tokens

__all__ = ["WORKERS", "Figures", "Way", "measure"]

WORKERS: Final = 4
_PACE: Final = {"oracle.step_ms": "2", "oracle.prompt_token_us": "20"}
_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How requests find their workers."""

    name: str
    routers: int = 1
    told: bool = True
    """Whether workers tell what their caches hold."""
    affinity: bool = True

    def settings(self) -> dict[str, str]:
        """What differs from the defaults."""
        settings = {**_PACE, "worker.prefix_cache_mib": str(CACHE_MIB)}
        if not self.told:
            settings["router.prefix_told_max"] = "0"
        if not self.affinity:
            settings["router.prefix_hashes_max"] = "0"
        return settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What came of one way."""

    way: str
    routers: int
    requests: int
    failed: int
    hits: float
    """Prompt tokens that came from caches, over what one endless cache would have held."""
    imbalance: float
    """Tokens that the busiest worker computed, prompts and answers, over the mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Served:
    worker: str
    prompt_tokens: int
    cached_tokens: int
    answer_tokens: int

    @property
    def computed(self) -> int:
        return self.prompt_tokens - self.cached_tokens + self.answer_tokens


async def measure(way: Way, questions: Sequence[Question], folder: Path, clock: Clock) -> Figures:
    """Raises `LeptonError` when the cluster cannot start."""
    wish = ClusterWish(workers=WORKERS, routers=way.routers, settings=way.settings())
    async with chaos_cluster(wish, folder, clock) as cluster:
        answers = await _ask_all(cluster.addresses, questions, clock)
    served = [answer for answer in answers if answer is not None]
    work = dict.fromkeys((f"w{number + 1}" for number in range(WORKERS)), 0)
    for answer in served:
        work[answer.worker] += answer.computed
    return Figures(
        way=way.name,
        routers=way.routers,
        requests=len(answers),
        failed=len(answers) - len(served),
        hits=sum(answer.cached_tokens for answer in served) / cacheable_tokens(questions),
        imbalance=max(work.values()) / fmean(work.values()) if served else 1.0,
    )


async def _ask_all(
    addresses: Sequence[str], questions: Sequence[Question], clock: Clock
) -> list[_Served | None]:
    """Each at its time, by turns over the routers; None for one that failed."""
    began_at = clock.now()

    async def ask_in_time(client: Client, question: Question) -> _Served | None:
        await clock.sleep(max(0.0, began_at + question.at - clock.now()))
        return await _ask(client, question)

    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(address)) for address in addresses]
        asking = (
            ask_in_time(client, question)
            for client, question in zip(cycle(clients), questions, strict=False)
        )
        return await asyncio.gather(*asking)


async def _ask(client: Client, question: Question) -> _Served | None:
    request = inference_pb2.GenerateRequest(
        model=MODEL,
        text=question.text,
        stop={"max_tokens": question.answer_tokens, "ignore_eos": True},
    )
    worker, usage = "", types_pb2.Usage()
    try:
        async for event in client.generate(request, timeout_s=_TIMEOUT_S):
            if event.HasField("started"):
                worker = event.started.worker_id
            elif event.HasField("finished"):
                usage = event.finished.usage
    except LeptonError:
        return None
    return _Served(
        worker=worker,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        answer_tokens=usage.completion_tokens,
    )
