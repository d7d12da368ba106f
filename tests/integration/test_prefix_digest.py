"""What the prefix caches of real workers hold, as routers hear it: several routers, evictions, restarts, nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
from opentelemetry.sdk.trace import TracerProvider

from common.clock import SystemClock
from common.cluster import ClusterSettings
from common.discovery.memory import MemoryRegistry
from common.limits import Limits
from common.request.prefix_of import prefix_of
from lepton.v1 import inference_pb2, router_pb2, worker_pb2
from router.app import Router, running
from router.config import Config
from router.core.endpoint import EndpointState
from router.settings import RouterSettings
from tests.support.fake_worker import FakeWorker
from tests.support.processes import until
from tests.support.small_cluster import ask, small_cluster
from tests.support.worker import LocalWorker, worker_of
from worker.oracle.open import open_oracle
from worker.oracle.settings import OracleSettings
from worker.settings import WorkerSettings

DOCUMENT_BYTES: Final = 1024
"""32 blocks of 32 tokens: the oracle's tokens are bytes."""
TOKEN: Final = "sesame"
EXPLAIN: Final = "/lepton.v1.RouterService/ExplainRoute"


def request(document: str, question: str = "", **fields: Any) -> inference_pb2.GenerateRequest:
    text = (document * DOCUMENT_BYTES)[:DOCUMENT_BYTES] + question
    return inference_pb2.GenerateRequest(text=text, stop={"max_tokens": 2}, **fields)


def hashes_of(asked: inference_pb2.GenerateRequest) -> set[int]:
    return set(prefix_of(asked, 128).hashes)


@asynccontextmanager
async def oracle_worker(
    worker_id: str = "w1",
    *,
    registry: MemoryRegistry | None = None,
    cache_mib: int = 64,
    **settings: Any,
) -> AsyncIterator[LocalWorker]:
    """64 MiB are 1,024 blocks, so 32 documents."""
    oracle = open_oracle(
        WorkerSettings(
            model_dir=Path(), model_name="oracle", prefix_cache_mib=cache_mib, rows_max=4
        ),
        OracleSettings(step_ms=0.0, row_us=0.0, prompt_token_us=0.0),
    )
    async with worker_of(
        oracle.runner, model=oracle.model, tokenizer=oracle.tokenizer, grammars=oracle.grammars,
        worker_id=worker_id, found_in=registry, token=TOKEN, **settings,
    ) as worker:  # fmt: skip
        yield worker


class Watch:
    """Follows WatchLoad and believes what it says of the cache."""

    def __init__(self, worker: LocalWorker, *, prefixes: bool = True) -> None:
        asked = worker_pb2.WatchLoadRequest(router_id="r", interval_ms=20, prefixes=prefixes)
        self._call: Any = worker.channel.unary_stream("/lepton.v1.WorkerService/WatchLoad")(
            asked.SerializeToString(), metadata=[("lepton-cluster-token", TOKEN)]
        )
        self.news: list[worker_pb2.PrefixNews] = []
        self.held: set[int] = set()
        self.reports = 0

    async def read(self) -> None:
        report = worker_pb2.WatchLoadResponse.FromString(await self._call.read())
        self.reports += 1
        if report.HasField("prefixes"):
            news = report.prefixes
            self.news.append(news)
            self.held = (set() if news.is_whole else self.held - set(news.gone)) | set(news.held)

    async def until(self, holds: Any) -> None:
        async with asyncio.timeout(5):
            while not holds(self.held):
                await self.read()


async def test_the_load_stream_tells_what_comes_and_what_is_evicted() -> None:
    one, other = request("one "), request("other ")
    async with oracle_worker(cache_mib=3) as worker:  # 48 blocks: a document and a half
        watch = Watch(worker)
        (await worker.ask(one)).check_whole()
        await watch.until(lambda held: held == hashes_of(one))
        assert watch.news[0].is_whole
        assert not any(news.is_whole for news in watch.news[1:])
        (await worker.ask(other)).check_whole()
        await watch.until(lambda held: held >= hashes_of(other) and not held >= hashes_of(one))
        # Of the first the end was evicted, and its beginning is still there.
        assert watch.held & hashes_of(one)
        late = Watch(worker)
        await late.until(lambda held: held == watch.held)
        assert [news.is_whole for news in late.news] == [True]


async def test_who_does_not_ask_and_who_bypasses_the_cache_hears_and_tells_nothing() -> None:
    async with oracle_worker() as worker:
        deaf, watch = Watch(worker, prefixes=False), Watch(worker)
        (await worker.ask(request("x", cache={"bypass": True}))).check_whole()
        (await worker.ask(request("y"))).check_whole()
        await watch.until(lambda held: held == hashes_of(request("y")))
        for _ in range(5):
            await deaf.read()
        assert not deaf.news


async def test_salts_keep_what_is_told_apart() -> None:
    async with oracle_worker() as worker:
        watch = Watch(worker)
        salted = request("x", cache={"salt": "tenant"})
        (await worker.ask(salted)).check_whole()
        await watch.until(lambda held: held == hashes_of(salted))
        assert not watch.held & hashes_of(request("x"))


async def test_no_more_is_told_than_the_setting_allows() -> None:
    async with oracle_worker(prefix_digest_max=3) as silent_worker:
        watch = Watch(silent_worker)
        for document in ("a", "b", "c"):
            (await silent_worker.ask(request(document))).check_whole()
        await watch.until(lambda held: held >= hashes_of(request("c")))
        assert all(len(news.held) <= 3 for news in watch.news)
        assert len(watch.held) <= 3


# --- routers ---


@asynccontextmanager
async def routers_of(
    registry: MemoryRegistry, num: int, num_workers: int, **settings: Any
) -> AsyncIterator[list[tuple[Router, grpc.aio.Channel]]]:
    settings = {
        "port": 0,
        "metrics_port": 0,
        "sweep_s": 0.02,
        "load_interval_ms": 20,
        "slow_start_s": 0.0,
        **settings,
    }
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(num):
            config = Config(
                router=RouterSettings(**settings),
                cluster=ClusterSettings.model_validate({"token": TOKEN}),
                limits=Limits(),
                gateway=None,
            )
            tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
            router = await stack.enter_async_context(
                running(config, watcher=registry, tracer=tracer, clock=SystemClock())
            )
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{router.port}")
            found.append((router, await stack.enter_async_context(channel)))
        for router, _ in found:
            await until(
                lambda router=router: _num_ready(router) == num_workers, within_s=5, what="workers"
            )
        yield found


def _num_ready(router: Router) -> int:
    endpoints = router.pool.snapshot().models.get("oracle", ())
    return sum(e.state is EndpointState.READY for e in endpoints)


async def known_bytes(
    channel: grpc.aio.Channel, asked: inference_pb2.GenerateRequest
) -> dict[str, int]:
    """What that router believes to be cached, by worker."""
    call = channel.unary_unary(
        EXPLAIN, response_deserializer=router_pb2.ExplainRouteResponse.FromString
    )
    told = await call(
        router_pb2.ExplainRouteRequest(request=asked).SerializeToString(),
        metadata=[("lepton-cluster-token", TOKEN)],
    )
    words = {
        candidate.worker_id: score.detail
        for candidate in told.candidates
        for score in candidate.scores
        if score.scorer == "prefix"
    }
    return {worker: int(detail.split()[0]) for worker, detail in words.items()}


async def until_known(
    channel: grpc.aio.Channel, asked: inference_pb2.GenerateRequest, holds: Any
) -> dict[str, int]:
    async with asyncio.timeout(5):
        while not holds(known := await known_bytes(channel, asked)):
            pass
        return known


async def homes_of(
    channel: grpc.aio.Channel, documents: Sequence[str], question: str
) -> list[tuple[str, int]]:
    """Worker and cached tokens of one question to each."""
    homes = []
    for document in documents:
        answer = await ask(channel, request(document, question))
        assert answer.error is None, answer.error
        started = inference_pb2.GenerateResponse.FromString(answer.messages[0]).events[0].started
        homes.append((started.worker_id, started.cached_tokens))
    return homes


DOCUMENTS: Final = [f"{n:03} document; " for n in range(12)]


@asynccontextmanager
async def four_workers(registry: MemoryRegistry) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for number in range(4):
            await stack.enter_async_context(oracle_worker(f"w{number}", registry=registry))
        yield


async def test_a_router_finds_what_another_one_sent_there() -> None:
    registry = MemoryRegistry()
    async with four_workers(registry), routers_of(registry, 2, 4) as routers:
        (_, first), (_, second) = routers
        homes = await homes_of(first, DOCUMENTS, "one?")
        for document in DOCUMENTS:
            await until_known(second, request(document), lambda known: max(known.values()) >= 512)
        others = await homes_of(second, DOCUMENTS, "two?")
        assert [home for home, _ in others] == [home for home, _ in homes]
        assert all(cached >= 900 for _, cached in others)


async def test_routers_that_only_guess_do_not() -> None:
    """The control of the test above."""
    registry = MemoryRegistry()
    async with four_workers(registry), routers_of(registry, 2, 4, prefix_told_max=0) as routers:
        (_, first), (_, second) = routers
        homes = await homes_of(first, DOCUMENTS, "one?")
        others = await homes_of(second, DOCUMENTS, "two?")
        assert [home for home, _ in others] != [home for home, _ in homes]
        assert any(cached == 0 for _, cached in others)


async def test_a_router_forgets_what_a_worker_evicted_and_what_went_with_a_process() -> None:
    registry = MemoryRegistry()
    asked = request("one ")
    async with routers_of(registry, 1, 0) as ((_, channel),):
        async with oracle_worker(registry=registry, cache_mib=3) as worker:
            await until_known(channel, asked, lambda known: known == {"w1": 0})
            assert (await ask(channel, asked)).error is None
            await until_known(channel, asked, lambda known: known == {"w1": DOCUMENT_BYTES})
            for other in ("two ", "three ", "four "):  # not through this router
                (await worker.ask(request(other))).check_whole()
            await until_known(channel, asked, lambda known: known == {"w1": 0})
            await until_known(
                channel, request("four "), lambda known: known == {"w1": DOCUMENT_BYTES}
            )
        async with oracle_worker(registry=registry):
            await until_known(channel, request("four "), lambda known: known == {"w1": 0})


async def test_nonsense_about_a_cache_harms_nobody() -> None:
    liar = FakeWorker("liar", model="tiny")
    async with small_cluster(liar, FakeWorker("w", model="tiny"), prefix_told_max=100) as cluster:
        for tale in range(20):
            news = worker_pb2.PrefixNews(
                is_whole=tale % 2 == 0,
                held=range(tale, tale + 50_000),
                gone=range(2**64 - 9, 2**64),
            )
            liar.report(prefixes=news)
            answer = await cluster.ask(text=f"{tale}" * 600)
            assert answer.error is None, answer.error
        assert {e.state for e in cluster.endpoints().values()} == {EndpointState.READY}
