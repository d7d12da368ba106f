"""Workers that freeze, stall, fail at once, fail now and then, or crawl; each with the protection switched off as well,
when the test must see the harm.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import grpc
import pytest

from common.errors import Internal, InvalidRequest, Reason
from lepton.v1 import inference_pb2
from router.core.endpoint import EndpointState
from router.core.pool import EndpointPool
from tests.support.fake_worker import FakeWorker, Script, message_of
from tests.support.patience import PATIENCE_S
from tests.support.small_cluster import Answer, SmallCluster, small_cluster, until
from tests.support.story import Told

READY, LOST = EndpointState.READY, EndpointState.LOST
SUSPECT, EJECTED = EndpointState.SUSPECT, EndpointState.EJECTED

OFF: dict[str, Any] = {"eject_share_max": 0.0}
"""Nobody is set aside."""
PATIENT: dict[str, Any] = {"load_silence_s_max": 60.0, "abandon_s": 60.0}
"""Nobody is a suspect."""
QUICK: dict[str, Any] = {"load_silence_s_max": 0.15, "abandon_s": 0.3}
BROKEN = Script(messages=0, error=Internal("x"))


_questions = itertools.count()


async def ask_one(cluster: SmallCluster) -> Answer:
    """A prompt that nobody has seen before: no worker knows its beginning."""
    return await cluster.ask(text=f"{next(_questions)} is a number")


async def ask_in_turn(cluster: SmallCluster, num: int) -> list[Answer]:
    return [await ask_one(cluster) for _ in range(num)]


async def ask_at_once(cluster: SmallCluster, num: int) -> list[Answer]:
    return list(await asyncio.gather(*(ask_one(cluster) for _ in range(num))))


def num_events(answer: Answer) -> int:
    """However they were merged on their way."""
    return len(inference_pb2.GenerateResponse.FromString(b"".join(answer.messages)).events)


def errors_of(answers: list[Answer]) -> list[object]:
    return [answer.error for answer in answers if answer.error is not None]


# --- forgotten ------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [0, 5])
async def test_call_that_its_worker_forgot_goes_elsewhere(told: int) -> None:
    """Its load reports keep coming and say that nothing is to do."""
    hung = FakeWorker("w1", script=Script(story=12, stops_after=told, hang=True))
    async with small_cluster(hung, stream_silence_s_max=0.2) as cluster:
        asking = asyncio.ensure_future(ask_one(cluster))
        await until(lambda: len(hung.calls) == 1)
        other = await cluster.add(FakeWorker("w2", script=Script(story=12)))
        answer = await asking
        assert answer.error is None
        Told.of(answer.messages).check(12)
        await until(hung.calls[0].ended.is_set)
        assert hung.calls[0].is_cancelled
        assert await cluster.has_metric('lepton_stream_faults_total{fault="silent"} 1.0')
        assert cluster.router.dispatcher.num_suspects == 0, "nobody died of it"
        await other.stop()


@pytest.mark.parametrize(
    ("settings", "load"),
    [
        ({"stream_silence_s_max": 0.0}, {}),
        ({"stream_silence_s_max": 0.1}, {"running": 1}),
        ({"stream_silence_s_max": 0.1}, {"waiting": 1}),
    ],
    ids=["switched off", "something runs", "something waits"],
)
async def test_call_is_left_where_it_is(settings: dict[str, float], load: dict[str, int]) -> None:
    hung = FakeWorker("w1", script=Script(story=12, stops_after=5, hang=True))
    hung.report(**load)
    async with small_cluster(hung, **PATIENT, **settings) as cluster:
        answer = await cluster.ask(timeout_s=1.0)
        assert answer.error is not None
        assert answer.error.reason is Reason.DEADLINE_EXCEEDED
        assert num_events(answer) == 5


async def test_worker_that_forgets_every_call_is_ejected_and_its_callers_are_told() -> None:
    hung = FakeWorker("w1", script=Script(messages=0, hang=True))
    async with small_cluster(
        hung, FakeWorker("w2"), stream_silence_s_max=0.05, eject_failures_max=3, retries_max=0
    ) as cluster:
        errors = errors_of(await ask_at_once(cluster, 12))
        assert len(errors) >= 3
        assert all(isinstance(e, Internal) and e.reason is Reason.STREAM_FAULT for e in errors)
        await cluster.until_state("w1", EJECTED)


# --- frozen ---------------------------------------------------------------------------------------


async def frozen_worker(cluster: SmallCluster) -> Answer | None:
    """A call waits on the frozen w1 while w2 is there; its answer, or None when it still waits after a while."""
    w1 = cluster.workers["w1"]
    asking = asyncio.ensure_future(ask_one(cluster))
    await until(lambda: len(w1.calls) == 1)
    await cluster.add(FakeWorker("w2"))
    w1.silence()
    done, _ = await asyncio.wait({asking}, timeout=1.5)
    await ask_in_turn(cluster, 4)
    if not done:
        asking.cancel()
        return None
    return asking.result()


def hanging() -> FakeWorker:
    return FakeWorker("w1", script=Script(messages=0, hang=True))


async def test_frozen_worker_gets_nothing_new_and_its_calls_move() -> None:
    async with small_cluster(hanging(), **QUICK) as cluster:
        answer = await frozen_worker(cluster)
        assert answer is not None
        assert answer.messages[0] == message_of("w2", 0)
        assert len(cluster.workers["w1"].calls) == 1
        assert cluster.endpoints()["w1"].trouble == "silent for 0.15 s"
        cluster.workers["w1"].silence(silent=False)
        await cluster.until_state("w1", READY)
        await cluster.workers["w2"].stop()


async def test_without_suspicion_a_call_on_a_frozen_worker_waits() -> None:
    async with small_cluster(hanging(), **PATIENT) as cluster:
        cluster.workers["w1"].report(running=8, waiting=8)  # so that the others go to w2
        assert await frozen_worker(cluster) is None
        await cluster.workers["w2"].stop()


# --- a step that does not end ---------------------------------------------------------------------


async def stalled_worker(cluster: SmallCluster) -> Answer | None:
    """As above; here reports go on, but their step stands still."""
    w1 = cluster.workers["w1"]
    w1.report(step=5, running=1, step_ms=20.0, step_ends_in_ms=0)
    asking = asyncio.ensure_future(ask_one(cluster))
    await until(lambda: len(w1.calls) == 1)
    await cluster.add(FakeWorker("w2"))
    done, _ = await asyncio.wait({asking}, timeout=1.5)
    if not done:
        asking.cancel()
        return None
    return asking.result()


async def test_worker_whose_step_does_not_end_loses_its_calls_and_gets_none() -> None:
    async with small_cluster(hanging(), **QUICK) as cluster:
        answer = await stalled_worker(cluster)
        assert answer is not None
        assert answer.messages[0] == message_of("w2", 0)
        assert errors_of(await ask_in_turn(cluster, 5)) == []
        assert len(cluster.workers["w1"].calls) == 1
        assert cluster.endpoints()["w1"].trouble == "step 5 does not end"
        cluster.workers["w1"].report(step=6)
        await cluster.until_state("w1", READY)
        await cluster.workers["w2"].stop()


async def test_without_suspicion_a_call_on_a_stalled_worker_waits() -> None:
    async with small_cluster(hanging(), **PATIENT) as cluster:
        assert await stalled_worker(cluster) is None
        await cluster.workers["w2"].stop()


async def test_most_workers_silent_at_once_keep_their_calls_for_a_while() -> None:
    """Then it is rather the router's network."""
    gate = asyncio.Event()
    workers = [FakeWorker(f"w{i}", script=Script(gate=gate)) for i in range(3)]
    async with small_cluster(*workers, mass_silence_s_max=30.0, **QUICK) as cluster:
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(ask_one(cluster)) for _ in range(12)]
            await until(lambda: sum(len(worker.calls) for worker in workers) == 12)
            for worker in workers:
                worker.silence()
            await until(lambda: cluster.router.pool.frozen == {("tiny", "silent")})
            assert await cluster.has_metric('lepton_models_frozen{trouble="silent"} 1.0')
            await asyncio.sleep(0.6)  # noqa: TID251 - twice the time in which calls are given up
            gate.set()
        assert [task.result().error for task in asking] == [None] * 12
        assert sum(len(worker.calls) for worker in workers) == 12, "nobody was asked twice"
        assert {e.state for e in cluster.endpoints().values()} == {SUSPECT}


async def router_that_sleeps() -> int:
    """How often a call was sent whose router stood still for longer than it would wait for its worker."""
    gate = asyncio.Event()
    workers = [
        FakeWorker("w1", script=Script(gate=gate)),
        FakeWorker("w2", script=Script(gate=gate)),
    ]
    async with small_cluster(*workers, mass_silence_s_max=0.0, **QUICK) as cluster:
        asking = asyncio.ensure_future(ask_one(cluster))
        await until(lambda: sum(len(worker.calls) for worker in workers) == 1)
        time.sleep(1.0)  # noqa: ASYNC251, TID251 - nothing on this loop moves
        await asyncio.sleep(0.1)  # noqa: TID251 - several sweeps
        gate.set()
        await asking
        return sum(len(worker.calls) for worker in workers)


async def test_router_that_stood_still_itself_blames_nobody() -> None:
    assert await router_that_sleeps() == 1


async def test_without_an_excuse_it_gives_calls_up(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = EndpointPool.sweep
    monkeypatch.setattr(EndpointPool, "sweep", lambda self, slept_s: sweep(self))
    assert await router_that_sleeps() > 1


# --- failing --------------------------------------------------------------------------------------


async def test_worker_that_fails_at_once_swallows_five_calls() -> None:
    """And none of them is lost."""
    async with small_cluster(FakeWorker("bad", script=BROKEN), FakeWorker("good")) as cluster:
        assert errors_of(await ask_in_turn(cluster, 40)) == []
        assert len(cluster.workers["bad"].calls) == 5
        assert cluster.endpoints()["bad"].state is EJECTED
        assert cluster.endpoints()["bad"].trouble == "5 calls failed in a row"
        assert await cluster.has_metric('lepton_ejections_total{cause="failures"} 1.0')
        assert await cluster.has_metric('lepton_endpoints{state="ejected"} 1.0')


async def test_without_ejection_a_worker_that_fails_at_once_swallows_many() -> None:
    async with small_cluster(
        FakeWorker("bad", script=BROKEN), FakeWorker("good"), **OFF
    ) as cluster:
        await ask_in_turn(cluster, 40)
        assert len(cluster.workers["bad"].calls) > 10
        assert await cluster.has_metric("lepton_ejections_ignored 1.0"), "but it is said"


async def half_failing(**settings: Any) -> tuple[int, list[object]]:
    """(calls that the bad worker saw, errors that clients saw)"""
    bad = FakeWorker("bad", script=Script(messages=0, error=Internal("x"), error_ratio=0.5))
    async with small_cluster(
        bad, FakeWorker("good"), retry_budget_burst=100.0, **settings
    ) as cluster:
        errors = errors_of(await ask_at_once(cluster, 40))
        errors += errors_of(await ask_in_turn(cluster, 100))
        return len(bad.calls), errors


async def test_worker_that_fails_every_second_call_is_set_aside() -> None:
    num_calls, errors = await half_failing()
    assert errors == []
    assert num_calls <= 45


async def test_without_ejection_it_is_asked_again_and_again() -> None:
    num_calls, _ = await half_failing(**OFF)
    assert num_calls > 60


async def test_when_all_fail_half_of_them_go_on_and_it_is_said() -> None:
    workers = [FakeWorker(f"w{i}", script=BROKEN) for i in range(4)]
    async with small_cluster(*workers, retry_budget_burst=5.0, retry_budget_per_s=0.0) as cluster:
        answers = await ask_in_turn(cluster, 60)
        assert {answer.code for answer in answers} == {grpc.StatusCode.INTERNAL}
        states = [e.state for e in cluster.endpoints().values()]
        assert states.count(EJECTED) == 2
        assert states.count(READY) == 2
        assert await cluster.has_metric("lepton_ejections_ignored 2.0")
        num_calls = sum(len(worker.calls) for worker in workers)
        assert num_calls <= 60 * 1.1 + 5, "no storm of retries"


async def test_bad_requests_set_nobody_aside() -> None:
    refusing = Script(messages=0, error=InvalidRequest("no", reason=Reason.PROMPT_TOO_LONG))
    async with small_cluster(FakeWorker("w1", script=refusing), FakeWorker("w2")) as cluster:
        answers = await ask_in_turn(cluster, 40)
        assert cluster.endpoints()["w1"].state is READY
        assert len(errors_of(answers)) == len(cluster.workers["w1"].calls) > 5


async def test_one_probe_must_pass_before_calls_come_back() -> None:
    bad, good = FakeWorker("bad", script=BROKEN), FakeWorker("good")
    async with small_cluster(bad, good, eject_s=0.1, eject_s_max=0.1) as cluster:
        bad.passes_probes = False
        await ask_in_turn(cluster, 20)
        num_calls = len(bad.calls)
        await until(lambda: bad.num_probes >= 2)
        await ask_in_turn(cluster, 5)
        assert len(bad.calls) == num_calls, "probes are no calls"
        assert cluster.endpoints()["bad"].trouble == "it failed a probe"
        bad.script = Script()
        bad.passes_probes = True
        await cluster.until_state("bad", READY)
        await ask_in_turn(cluster, 20)
        assert len(bad.calls) > num_calls


# --- slow -----------------------------------------------------------------------------------------


async def share_of_slow(*, tells: bool, **settings: Any) -> float:
    """Of 200 calls in turns of four, the share that goes to one of four workers that takes ten times as long."""
    workers = [FakeWorker(f"w{i}") for i in range(4)]
    async with small_cluster(*workers, **settings) as cluster:
        if tells:
            for worker in workers:
                speed = 5.0 if worker.id == "w0" else 50.0
                worker.report(
                    step=1,
                    step_ms=1000 / speed,
                    decode_rows=1,
                    decode_tokens_per_s=speed,
                    prefill_tokens_per_s=20 * speed,
                )
            await until(lambda: all(e.load.decode_rows == 1 for e in cluster.endpoints().values()))
        for _ in range(50):
            assert errors_of(await ask_at_once(cluster, 4)) == []
        return len(workers[0].calls) / 200


async def test_worker_ten_times_slower_gets_next_to_nothing() -> None:
    assert await share_of_slow(tells=True, **OFF) <= 0.03, "by its time alone"


async def test_without_its_speed_a_slow_worker_gets_as_much_as_others() -> None:
    assert await share_of_slow(tells=False, **OFF) > 0.1


async def test_worker_that_crawls_is_set_aside() -> None:
    async with small_cluster(FakeWorker("w0"), FakeWorker("w1"), FakeWorker("w2")) as cluster:
        async with asyncio.timeout(PATIENCE_S):
            step = 0
            while cluster.endpoints()["w0"].state is not EJECTED:
                step += 1
                for worker in cluster.workers.values():
                    speed = 5.0 if worker.id == "w0" else 50.0
                    worker.report(step=step, decode_rows=1, decode_tokens_per_s=speed)
                await asyncio.sleep(0.05)  # noqa: TID251 - a step
        assert "times as slow" in cluster.endpoints()["w0"].trouble
        assert cluster.endpoints()["w1"].state is READY
