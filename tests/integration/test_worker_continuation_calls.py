"""What a continued call is to the worker: where it stands among others, what is told and counted. Without a model."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from common.errors import DeadlineExceeded, Overloaded
from common.logs import _fields_of
from lepton.v1 import inference_pb2
from tests.support.continuation import continued, whole
from tests.support.fake_runner import FakeRunner
from tests.support.paced_runner import PacedRunner
from tests.support.worker import Answer, LocalWorker, worker_of

Request = inference_pb2.GenerateRequest


@asynccontextmanager
async def worker_on(runner: FakeRunner, **settings: Any) -> AsyncIterator[LocalWorker]:
    """Each of its tokens is an event."""
    paced = PacedRunner(runner)
    async with worker_of(paced, **settings) as worker:
        paced.engine = worker.running.engine
        yield worker
    assert not runner.violations


async def resumed(worker: LocalWorker, request: Request, first: Answer, num_events: int) -> Answer:
    answer = await worker.ask(continued(request, first.events[:num_events]))
    assert answer.error is None, answer.error
    assert whole([*first.events[:num_events], *answer.events]) == whole(first.events)
    return answer


async def test_when_all_choices_have_ended_only_the_end_is_missing() -> None:
    runner = FakeRunner()
    async with worker_on(runner) as worker:
        request = Request(text="abc", sampling={"n": 2, "seed": 4}, stop={"max_tokens": 3})
        first = await worker.ask(request)
        num_steps = len(runner.batches)
        answer = await resumed(worker, request, first, len(first.events) - 1)
        assert [event.WhichOneof("kind") for event in answer.events] == ["migrated", "finished"]
        assert answer.migrated is not None
        assert answer.migrated.replayed_tokens == 0
        assert len(runner.batches) == num_steps, "nothing is computed"


async def test_usage_is_what_the_first_worker_counted() -> None:
    """Also of its prefix cache, although here everything is known by now."""
    async with worker_on(FakeRunner(capacity=128, num_blocks=8, keeps_decoded=True)) as worker:
        request = Request(text="x" * 70, stop={"max_tokens": 50}, sampling={"seed": 1})
        await worker.ask(Request(text="x" * 40, stop={"max_tokens": 1}))
        first = await worker.ask(request)
        assert first.started is not None
        assert first.started.cached_tokens == 32
        answer = await resumed(worker, request, first, 35)
        assert answer.finished is not None
        assert answer.finished.usage.cached_tokens == 32
        assert answer.finished.usage.completion_tokens == 50


async def test_a_full_queue_and_the_time_to_begin_are_for_those_that_begin() -> None:
    runner = FakeRunner(num_slots=1)
    request = Request(
        text="abc",
        stop={"max_tokens": 4},
        sampling={"seed": 1},
        service_level={"queue_timeout_ms": 0},
    )
    async with worker_on(runner, waiting_sequences_max=1) as worker:
        first = await worker.ask(request)
        with runner.hold():
            running = asyncio.ensure_future(worker.ask("ab"))
            while worker.running.engine.load().running < 1:
                await asyncio.wait({running}, timeout=0.001)
            waiting = asyncio.ensure_future(worker.ask("cd"))
            while worker.running.engine.load().waiting < 1:
                await asyncio.wait({waiting}, timeout=0.001)
            refused = await worker.ask("ef")
            assert isinstance(refused.error, Overloaded)
            goes_on = [asyncio.ensure_future(resumed(worker, request, first, 2)) for _ in range(3)]
            while worker.running.engine.load().waiting < 4:
                await asyncio.wait(goes_on, timeout=0.001)
        await asyncio.gather(*goes_on)
        for call in (running, waiting):
            (await call).check_whole()


async def test_the_deadline_is_for_everybody() -> None:
    runner = FakeRunner()
    request = Request(text="abc", stop={"max_tokens": 60}, sampling={"seed": 1})
    async with worker_on(runner) as worker:
        first = await worker.ask(request)
        with runner.hold():
            late = await worker.ask(continued(request, first.events[:5]), timeout_s=0.05)
        assert isinstance(late.error, DeadlineExceeded)
        await worker.idle()


@pytest.mark.parametrize("keeps_decoded", [False, True], ids=["portable", "native"])
async def test_a_move_is_told_in_span_log_and_metrics(
    *, keeps_decoded: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with worker_on(FakeRunner(keeps_decoded=keeps_decoded)) as worker:
        request = Request(text="abc", stop={"max_tokens": 9}, sampling={"seed": 1})
        first = await worker.ask(request)
        prompt_tokens = worker.metrics.get_sample_value("lepton_prompt_tokens_total")
        sent = continued(request, first.events[:4])
        sent.continuation.attempt = 2
        sent.continuation.from_worker_id = "w0"
        num_known = len(sent.continuation.choices[0].token_ids)
        sent.continuation.choices[0].token_ids[1] ^= 1  # as if the first worker had drawn otherwise
        answer = await worker.ask(sent)
        assert answer.migrated is not None
        assert (answer.migrated.from_worker_id, answer.migrated.to_worker_id) == ("w0", "w1")
        assert answer.migrated.replayed_tokens == num_known
        assert answer.migrated.fingerprint == "fake"
        await worker.idle()
        spans = await worker.ended_spans(10)
        (span,) = [s for s in spans if "lepton.migration" in (s.attributes or {})]
        attributes: dict[str, Any] = dict(span.attributes or {})
        num_mismatches = 0 if keeps_decoded else 1  # where nothing is drawn again nothing is found
        assert attributes["lepton.migration"] == 2
        assert attributes["lepton.migrated_from"] == "w0"
        assert attributes["lepton.replayed_tokens"] == num_known
        assert attributes["lepton.replay_mismatches"] == num_mismatches
        fields = [fields for record in caplog.records if (fields := _fields_of(record))]
        (line,) = [line for line in fields if "migration" in line]
        assert (line["migration"], line["migrated_from"]) == (2, "w0")
        assert line["replayed_tokens"] == num_known
        assert line.get("replay_mismatches", 0) == num_mismatches
        for name, value in (
            ("lepton_continuations_total", 1),
            ("lepton_replayed_tokens_total", num_known),
            ("lepton_replay_mismatches_total", num_mismatches),
            ("lepton_prompt_tokens_total", prompt_tokens),
        ):
            assert worker.metrics.get_sample_value(name) == value, name
