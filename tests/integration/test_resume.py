"""Clients that lose their connection and come back, over real gRPC: two routers, two workers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr

from common.errors import InvalidRequest, NotFound, Reason
from common.resume_token import ResumePoint, ResumeTokens
from common.rpc.metadata import FINISHED_KEY
from router.upstream.grpc_worker import GrpcWorker
from tests.support.continuation import continued, whole
from tests.support.processes import until
from tests.support.resuming import (
    NUM_TOKENS,
    ResumingCluster,
    Tap,
    request,
    resuming_cluster,
    text_of,
)


def back(tap: Tap, after_seq: int | None = None, **fields: Any) -> Any:
    """The request with which a client comes back; by default it has what it read."""
    after = tap.seqs[-1] if after_seq is None else after_seq
    return request(resume={"resume_token": tap.token, "after_seq": after}, **fields)


async def begun(cluster: ResumingCluster, *, num_tokens: int = 5, caller: str = "") -> Tap:
    """A client that got so many tokens and then lost its connection."""
    tap = cluster.tap(request(), caller=caller)
    cluster.pace.allow(num_tokens)
    await tap.read(num_chars=num_tokens)
    await tap.leave()
    await cluster.until_alone()
    return tap


@pytest.mark.parametrize("token", ["sesame", ""], ids=["cluster token", "no cluster token"])
async def test_a_stream_goes_on_through_another_router(token: str) -> None:
    async with resuming_cluster(token=token) as cluster:
        first = await begun(cluster)
        assert first.text == "abcde"
        cluster.pace.free()
        rest = await cluster.tap(back(first), router=1).read()
        rest.check_rest(first)
        assert cluster.pace.num_tokens == NUM_TOKENS, "nothing was computed twice"


async def test_the_compute_goes_on_while_nobody_listens_and_the_tail_is_kept_after_the_end() -> (
    None
):
    async with resuming_cluster() as cluster:
        first = await begun(cluster)
        cluster.pace.free()
        await until(lambda: cluster.num_computing() == 0, what="the end")
        whole = await cluster.tap(request(resume={"resume_token": first.token})).read()
        whole.check_whole()
        for after_seq in whole.seqs:
            rest = await cluster.tap(back(whole, after_seq), router=1).read()
            rest.check_rest(whole, after_seq)
        assert cluster.pace.num_tokens == NUM_TOKENS


async def test_a_call_that_is_not_resumable_stops_with_its_client() -> None:
    """The negative control."""
    async with resuming_cluster() as cluster:
        tap = cluster.tap(request(resumable_ms=0))
        cluster.pace.allow(5)
        await tap.read(num_chars=5)
        assert tap.token == ""
        await tap.leave()
        await cluster.until_alone()
        cluster.pace.allow(1)
        await until(lambda: cluster.num_computing() == 0, what="an idle engine")
        assert cluster.pace.num_tokens < NUM_TOKENS
        assert cluster.num_kept() == 0


async def test_a_call_to_which_nobody_comes_back_stops_and_is_forgotten() -> None:
    async with resuming_cluster() as cluster:
        tap = cluster.tap(request(resumable_ms=100))
        cluster.pace.allow(5)
        await tap.read(num_chars=5)
        await tap.leave()
        await until(lambda: cluster.num_kept() == 0, what="expired")
        cluster.pace.allow(1)
        await cluster.until_nothing_is_left()
        assert cluster.pace.num_tokens < NUM_TOKENS
        late = await cluster.tap(back(tap, resumable_ms=100)).read()
        assert late.error is not None
        assert late.error.reason is Reason.RESUME_NOT_FOUND


async def test_a_call_that_is_left_before_its_first_event_stops_with_its_client() -> None:
    """It may be resumed for ten minutes, by a token that nobody has."""
    async with resuming_cluster() as cluster:
        tap = cluster.tap(request())
        await until(lambda: cluster.num_computing() == 1, what="a call")
        await tap.leave()
        await until(lambda: cluster.num_kept() == 0, what="forgotten")
        cluster.pace.allow(1)
        await cluster.until_nothing_is_left()
        assert cluster.pace.num_tokens < NUM_TOKENS


async def test_with_a_key_it_waits_for_who_comes_back() -> None:
    """The negative control."""
    async with resuming_cluster() as cluster:
        tap = cluster.tap(request(idempotency_key="k"))
        await until(lambda: cluster.num_computing() == 1, what="a call")
        await tap.leave()
        await cluster.until_alone()
        cluster.pace.free()
        again = await cluster.tap(request(idempotency_key="k"), router=1).read()
        again.check_whole()
        assert cluster.pace.num_tokens == NUM_TOKENS


async def test_the_deadline_of_the_first_call_holds_for_all_that_follow() -> None:
    async with resuming_cluster() as cluster:
        tap = cluster.tap(request(), timeout_s=1.5)
        cluster.pace.allow(2)
        await tap.read(num_chars=2)
        await tap.leave()
        resumed = cluster.tap(back(tap), timeout_s=20)
        async with asyncio.TaskGroup() as group:
            group.create_task(resumed.read())
            await asyncio.sleep(1.6)  # noqa: TID251 - a deadline of gRPC has no other clock
            cluster.pace.allow(1)  # the running step ends
        assert resumed.error is not None
        assert resumed.error.reason is Reason.DEADLINE_EXCEEDED


async def test_what_fell_out_of_the_ring_has_expired_and_the_rest_is_there() -> None:
    async with resuming_cluster(replay_bytes_max=1024) as cluster:
        first = cluster.tap(request())
        for num_chars in range(
            1, NUM_TOKENS + 1
        ):  # one by one, so that each has a message of its own
            cluster.pace.allow(1)
            await first.read(num_chars=num_chars)
        await first.read()
        last = first.seqs[-1]
        gone = await cluster.tap(back(first, 0)).read()
        assert isinstance(gone.error, NotFound)
        assert gone.error.reason is Reason.RESUME_EXPIRED
        assert cluster.num_bytes() <= 1024
        rest = await cluster.tap(back(first, last - 2), router=1).read()
        assert rest.seqs == [last - 1, last]
        assert rest.trailing[FINISHED_KEY]


async def test_a_stranger_learns_nothing() -> None:
    """A token of another caller, a made-up one and one that leads nowhere any more get the same answer."""
    async with resuming_cluster() as cluster:
        mine = await begun(cluster, caller="alice")
        lost = ResumePoint(worker_id=mine.worker_id, call_id=b"0" * 16)
        other_worker = ResumePoint(worker_id="nobody", call_id=b"0" * 16)
        tokens = ResumeTokens(SecretStr("sesame"))
        answers = []
        for token, caller in (
            (mine.token, "bob"),
            (mine.token, ""),
            ("x" + mine.token[1:], "alice"),
            ("never seen", "alice"),
            (tokens.make(lost, "alice"), "alice"),
            (tokens.make(other_worker, "alice"), "alice"),
        ):
            resume = {"resume_token": token, "after_seq": 2}
            tap = await cluster.tap(request(resume=resume), router=1, caller=caller).read()
            assert tap.error is not None
            assert tap.seqs == []
            answers.append((tap.error.reason, tap.error.message, tap.error.field))
        assert len(set(answers)) == 1
        assert answers[0][0] is Reason.RESUME_NOT_FOUND
        refused = await cluster.abort(mine.token, caller="bob")
        assert refused is not None
        assert refused.reason is Reason.RESUME_NOT_FOUND
        cluster.pace.free()
        rest = await cluster.tap(back(mine), router=1, caller="alice").read()
        rest.check_rest(mine)


async def test_a_worker_compares_the_caller_too() -> None:
    """Without a cluster token anybody can compute a token's MAC: then the worker protects what only it knows."""
    async with resuming_cluster(token="") as cluster:
        mine = await begun(cluster, caller="alice")
        point = ResumeTokens(SecretStr("")).read(mine.token, "alice")
        forged = ResumeTokens(SecretStr("")).make(point, "bob")
        tap = await cluster.tap(request(resume={"resume_token": forged}), caller="bob").read()
        assert tap.error is not None
        assert tap.error.reason is Reason.RESUME_NOT_FOUND


async def test_another_request_or_a_seq_from_the_future_is_refused_and_disturbs_nothing() -> None:
    async with resuming_cluster() as cluster:
        first = await begun(cluster)
        other = await cluster.tap(back(first, text="another question")).read()
        assert isinstance(other.error, InvalidRequest)
        assert (other.error.reason, other.error.field) == (Reason.FIELDS_CONTRADICT, "resume")
        future = await cluster.tap(back(first, 1000)).read()
        assert isinstance(future.error, InvalidRequest)
        assert future.error.field == "resume.after_seq"
        cluster.pace.free()
        rest = await cluster.tap(back(first), router=1).read()
        rest.check_rest(first)


async def test_abort_stops_the_compute_and_tells_whoever_listens() -> None:
    async with resuming_cluster() as cluster:
        tap = cluster.tap(request())
        cluster.pace.allow(3)
        await tap.read(num_chars=3)
        assert await cluster.abort(tap.token, router=1) is None
        await tap.read()
        assert tap.error is not None
        assert tap.error.reason is Reason.ABORTED
        cluster.pace.allow(1)
        await cluster.until_nothing_is_left()
        assert cluster.pace.num_tokens < NUM_TOKENS
        assert await cluster.abort(tap.token) is None, "a call that has ended is no error"
        gone = await cluster.tap(back(tap)).read()
        assert gone.error is not None
        assert gone.error.reason is Reason.RESUME_NOT_FOUND


async def test_several_clients_follow_one_call_each_at_its_own_pace() -> None:
    async with resuming_cluster() as cluster:
        first = await begun(cluster)
        taps = [cluster.tap(back(first, after), router=after % 2) for after in first.seqs]
        async with asyncio.TaskGroup() as group:
            for tap in taps:
                group.create_task(tap.read())
            cluster.pace.free()
        for after, tap in zip(first.seqs, taps, strict=True):
            tap.check_rest(first, after)
        assert cluster.pace.num_tokens == NUM_TOKENS


async def test_a_client_that_does_not_read_holds_up_nobody() -> None:
    """Flow control fills up behind it; the call ends all the same, and the client gets the rest from the ring."""
    num_tokens = 12_000
    async with resuming_cluster(replay_bytes_max=16 << 20) as cluster:
        asked = request(num_tokens=num_tokens)
        slow = cluster.tap(asked)
        cluster.pace.allow(1)
        await slow.read(num_chars=1)
        asked.resume.resume_token = slow.token
        quick = cluster.tap(asked, router=1)
        await asyncio.to_thread(cluster.pace.free)
        await quick.read()
        quick.check_whole(num_tokens)
        assert cluster.num_computing() == 0
        await slow.read()
        slow.check_whole(num_tokens)


async def test_a_hundred_clients_come_back_at_once_and_nothing_is_left() -> None:
    async with resuming_cluster(num_slots=16) as cluster:
        asked = [request(f"question {i}") for i in range(100)]
        taps = [cluster.tap(one, router=i % 2) for i, one in enumerate(asked)]
        reading = [tap.read(num_chars=2) for tap in taps]
        await asyncio.to_thread(cluster.pace.free)
        await asyncio.gather(*reading)
        for tap in taps:
            await tap.leave()
        for one, tap in zip(asked, taps, strict=True):
            one.resume.resume_token, one.resume.after_seq = tap.token, tap.seqs[-1]
        again = [cluster.tap(one, router=(i + 1) % 2) for i, one in enumerate(asked)]
        await asyncio.gather(*(tap.read() for tap in again))
        for tap, rest in zip(taps, again, strict=True):
            rest.check_rest(tap)
        assert cluster.pace.num_tokens == 100 * NUM_TOKENS
        assert cluster.num_kept() == 100
        assert cluster.num_bytes() > 0
        for tap in taps:
            assert await cluster.abort(tap.token) is None
        await cluster.until_nothing_is_left()


async def test_a_drain_waits_for_a_call_that_nobody_listens_to() -> None:
    async with resuming_cluster(("w1",)) as cluster:
        first = await begun(cluster)
        draining = asyncio.gather(cluster.workers["w1"].running.drain(10.0))
        await until(lambda: cluster.workers["w1"].running.in_flight.draining, what="drain")
        refused = await cluster.tap(request(), timeout_s=0.3).read()
        assert refused.error is not None, "nothing new"
        resumed = cluster.tap(back(first), router=1)
        await until(
            lambda: cluster.workers["w1"].running.in_flight.num_calls == 1,
            what="joined",
        )
        cluster.pace.free()
        (await resumed.read()).check_rest(first)
        assert await draining == [True]


async def test_a_stream_that_moved_can_be_gone_on_with_from_its_new_worker() -> None:
    """The ring of the new worker begins with `Migrated`, which brings the new token."""
    async with resuming_cluster() as cluster:
        asked = request(idempotency_key="k")
        first = cluster.tap(asked)
        cluster.pace.allow(5)
        await first.read(num_chars=5)
        assert await cluster.abort(first.token) is None  # or it would take the tokens of the other
        cluster.pace.allow(1)
        await cluster.until_nothing_is_left()
        # As after an earlier return: to another worker the old token means nothing.
        asked.resume.resume_token = first.token
        other = "w2" if first.worker_id == "w1" else "w1"
        moved = cluster.tap_worker(other, continued(asked, first.events))
        cluster.pace.allow(10)
        await moved.read(num_chars=2)
        assert moved.worker_id == other, moved.error
        assert moved.token not in {"", first.token}
        await moved.leave()
        cluster.pace.free()
        asked.resume.resume_token, asked.resume.after_seq = moved.token, moved.seqs[-1]
        rest = await cluster.tap(asked, router=1).read()
        assert rest.error is None
        events = [*first.events, *moved.events, *rest.events]
        (answer,) = whole(events)["choices"].values()
        assert answer["text"] == text_of(NUM_TOKENS)
        asked.resume.after_seq = len(first.events) - 1
        assert (await cluster.tap(asked).read()).seqs[0] == len(first.events)
        asked.resume.after_seq -= 1
        gone = await cluster.tap(asked).read()
        assert gone.error is not None
        assert gone.error.reason is Reason.RESUME_EXPIRED


async def test_worker_that_was_given_up_stops_computing_when_it_hears_of_it() -> None:
    async with resuming_cluster() as cluster:
        tap = cluster.tap(request())
        cluster.pace.allow(5)
        await tap.read(num_chars=5)
        given_up = tap.worker_id
        cluster.give_up(given_up)
        await until(lambda: not cluster.keeps(given_up), what="let go")
        cluster.pace.free()
        (await tap.read()).check_moved()


async def test_worker_that_does_not_hear_of_it_computes_on_for_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The negative control."""
    monkeypatch.setattr(GrpcWorker, "let_go", lambda *_: None)
    async with resuming_cluster() as cluster:
        tap = cluster.tap(request())
        cluster.pace.allow(5)
        await tap.read(num_chars=5)
        given_up = tap.worker_id
        cluster.give_up(given_up)
        cluster.pace.free()
        (await tap.read()).check_moved()
        assert cluster.keeps(given_up)


async def test_worker_that_was_given_up_goes_on_for_those_who_follow_through_another_router() -> (
    None
):
    """It did not freeze: its connection to one of the routers was cut."""
    async with resuming_cluster() as cluster:
        tap = cluster.tap(request())
        cluster.pace.allow(5)
        await tap.read(num_chars=5)
        given_up = tap.worker_id
        follower = cluster.tap(request(resume={"resume_token": tap.token}), router=1)
        await follower.read(num_chars=5)
        cluster.give_up(given_up)
        cluster.pace.free()
        (await tap.read()).check_moved()
        (await follower.read()).check_whole()
        assert await cluster.abort(tap.token) is None
        await until(lambda: cluster.num_kept() <= 1, what="nothing for nobody")


async def test_a_resumed_stream_moves_when_its_worker_dies_and_can_be_resumed_again() -> None:
    async with resuming_cluster() as cluster:
        first = await begun(cluster)
        second = cluster.tap(back(first), router=1)
        cluster.pace.allow(2)
        await second.read(num_chars=2)
        await cluster.kill(first.worker_id)
        # Those that are known are drawn again, and the dead one's engine takes turns as well.
        cluster.pace.allow(24)
        await second.read(num_chars=4)
        assert second.worker_id not in {"", first.worker_id}
        await second.leave()
        second.events[:0] = first.events
        cluster.pace.free()
        third = await cluster.tap(back(second)).read()
        third.check_moved(second)
        old = await cluster.tap(back(first), timeout_s=5).read()
        assert old.error is not None, "the old token leads to a dead worker"


async def test_a_resumed_stream_whose_beginning_is_not_kept_ends_with_its_worker() -> None:
    """The negative control: what the router has not seen, it cannot move."""
    async with resuming_cluster(replay_bytes_max=1024) as cluster:
        first = cluster.tap(request())
        for num_chars in range(1, 11):  # one by one, so that each has a message of its own
            cluster.pace.allow(1)
            await first.read(num_chars=num_chars)
        await first.leave()
        rest = cluster.tap(back(first), router=1)
        cluster.pace.allow(2)
        await rest.read(num_chars=2)
        await cluster.kill(first.worker_id)
        cluster.pace.free()
        await rest.read()
        assert rest.error is not None
        assert rest.error.reason is Reason.WORKER_LOST
        assert first.text + rest.text == text_of(NUM_TOKENS)[:12]


async def test_a_client_that_stays_through_a_death_gets_a_token_of_the_new_worker() -> None:
    async with resuming_cluster() as cluster:
        tap = cluster.tap(request())
        cluster.pace.allow(3)
        await tap.read(num_chars=3)
        token, dead = tap.token, tap.worker_id
        await cluster.kill(dead)
        cluster.pace.free()
        await tap.read()
        tap.check_moved()
        assert tap.token not in {"", token}
        last = tap.seqs[-1]
        rest = await cluster.tap(back(tap, last - 1), router=1).read()
        assert rest.seqs == [last]


@pytest.mark.parametrize("caller", ["a b", "x" * 129])
async def test_a_caller_without_a_proper_name_is_refused(caller: str) -> None:
    async with resuming_cluster() as cluster:
        tap = await cluster.tap(request(), caller=caller).read()
        assert isinstance(tap.error, InvalidRequest)
        assert tap.error.reason is Reason.FIELD_MALFORMED
        assert cluster.num_kept() == 0


async def test_a_client_that_wants_no_token_ids_gets_none_however_often_it_comes_back() -> None:
    """The router needs them to move the stream, and takes them out."""
    async with resuming_cluster() as cluster:
        asked = request(output={"token_ids": False})
        first = cluster.tap(asked)
        cluster.pace.allow(5)
        await first.read(num_chars=5)
        await first.leave()
        cluster.pace.free()
        asked.resume.resume_token, asked.resume.after_seq = first.token, first.seqs[-1]
        rest = await cluster.tap(asked, router=1).read()
        rest.check_rest(first)
        events = first.events + rest.events
        assert not any(event.delta.token_ids for event in events)
