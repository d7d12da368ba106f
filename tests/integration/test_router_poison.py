"""A request that ends the workers that compute it: it ends two, and nobody who stood beside it pays for it."""

from __future__ import annotations

import asyncio

import grpc

from common.errors import Reason
from tests.support.fake_worker import FakeWorker, Script
from tests.support.patience import PATIENCE_S
from tests.support.small_cluster import Answer, SmallCluster, small_cluster, until
from tests.support.story import Told

TOKENS = 30
POISON = "drink me"


def workers_with(gate: asyncio.Event, num: int = 4) -> list[FakeWorker]:
    workers = [FakeWorker(f"w{n}", script=Script(story=TOKENS)) for n in range(1, num + 1)]
    for worker in workers:
        worker.poison = POISON
        worker.gate = gate
    return workers


async def bystanders_and_poison(
    cluster: SmallCluster, gate: asyncio.Event
) -> tuple[list[Answer], Answer]:
    """Twelve calls, among them the poison, spread over the workers before any of them begins."""
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        calls = [group.create_task(cluster.ask(text=f"call {n}")) for n in range(11)]
        poison = group.create_task(cluster.ask(text=POISON))
        await until(lambda: sum(len(w.calls) for w in cluster.workers.values()) == 12)
        gate.set()
    return [call.result() for call in calls], poison.result()


async def test_poison_ends_two_workers_and_no_other_call() -> None:
    gate = asyncio.Event()
    workers = workers_with(gate)
    async with small_cluster(*workers, death_verdict_s=0.2) as cluster:
        others, poison = await bystanders_and_poison(cluster, gate)
        for answer in others:
            assert answer.error is None, answer.error
            Told.of(answer.messages).check(TOKENS)
        assert poison.code is grpc.StatusCode.FAILED_PRECONDITION
        assert poison.error is not None
        assert poison.error.reason is Reason.POISON_REQUEST
        assert sum(worker.num_deaths for worker in workers) == 2

        again = await cluster.ask(text=POISON, request_id="another-name")
        assert again.error is not None
        assert again.error.reason is Reason.POISON_REQUEST
        assert again.messages == []
        assert (await cluster.ask(text="call 1")).error is None
        assert sum(worker.num_deaths for worker in workers) == 2
        assert cluster.router.dispatcher.num_suspects == 0


async def test_without_quarantine_poison_ends_three() -> None:
    gate = asyncio.Event()
    workers = workers_with(gate)
    async with small_cluster(*workers, quarantine_s=0) as cluster:
        _, poison = await bystanders_and_poison(cluster, gate)
        assert poison.error is not None
        assert poison.error.reason is Reason.WORKER_LOST
        assert sum(worker.num_deaths for worker in workers) == 3


async def test_conviction_is_forgotten_in_time() -> None:
    gate = asyncio.Event()
    gate.set()
    workers = workers_with(gate, 3)
    async with small_cluster(*workers, quarantine_s=0.5, death_verdict_s=0.1) as cluster:
        first = await cluster.ask(text=POISON)
        assert first.error is not None
        assert first.error.reason is Reason.POISON_REQUEST
        survivor = next(worker for worker in workers if not worker.num_deaths)
        survivor.poison = ""

        async def is_served() -> bool:
            return (await cluster.ask(text=POISON)).error is None

        async with asyncio.timeout(PATIENCE_S):
            while not await is_served():
                pass


async def test_cut_streams_and_drains_make_nobody_a_suspect() -> None:
    """Twice in a row, and still nothing is called poison."""
    cut = Script(story=TOKENS, stops_after=3, finished=False)
    first, second = FakeWorker("w1", script=cut), FakeWorker("w2", script=cut)
    for worker in (first, second):
        worker.continued = cut
    async with small_cluster(first, second) as cluster:
        answer = await cluster.ask()
        assert answer.error is not None
        assert answer.error.reason is Reason.WORKER_LOST
        assert (await cluster.ask()).error is not None
        assert cluster.router.dispatcher.num_suspects == 0


async def test_cut_connection_of_a_call_on_probation_convicts_nobody() -> None:
    """Its first worker died; the second one lives, and says so."""
    gate, again = asyncio.Event(), asyncio.Event()
    whole = Script(story=TOKENS)
    first = FakeWorker("w1", script=Script(story=TOKENS, stops_after=3, dies=True, gate=gate))
    second = FakeWorker("w2", script=whole)
    second.continued = Script(story=TOKENS, stops_after=1, finished=False, gate=again)
    async with small_cluster(first) as cluster:
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            call = group.create_task(cluster.ask())
            await until(lambda: len(first.calls) == 1)
            await cluster.add(second)
            gate.set()
            await until(lambda: len(second.calls) == 1)
            second.continued = whole
            again.set()
        answer = call.result()
        assert answer.error is None, answer.error
        Told.of(answer.messages).check(TOKENS)
        assert Told.of(answer.messages).workers == ["w1", "w2", "w2"]
        await second.stop()


async def test_poison_whose_caller_leaves_early_is_not_forgotten() -> None:
    """Sent again, it is on probation from the start, so that it ends one more worker and not two."""
    gate = asyncio.Event()
    gate.set()
    workers = workers_with(gate, 2)
    async with small_cluster(workers[0], wait_for_worker_s_max=5) as cluster:
        async with asyncio.TaskGroup() as group:
            call = group.create_task(cluster.ask(text=POISON))
            await until(lambda: workers[0].num_deaths == 1)
            await until(lambda: cluster.router.dispatcher.num_suspects == 1)
            call.cancel()
        await until(lambda: cluster.router.dispatcher.num_suspects == 0)
        await cluster.add(workers[1])
        answer = await cluster.ask(text=POISON)
        assert answer.error is not None
        assert answer.error.reason is Reason.POISON_REQUEST
        assert workers[1].num_deaths == 1
        await workers[1].stop()
