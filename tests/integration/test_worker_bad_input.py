"""Wrong requests: each gets a typed answer that names reason and field, and its neighbours notice nothing."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from common.errors import Forbidden, InvalidRequest, NotFound, Reason, Unsupported
from lepton.v1 import inference_pb2, types_pb2
from tests.support.fake_runner import FakeRunner, fake_completion
from tests.support.processes import until
from tests.support.worker import LocalWorker, worker_of

Request = inference_pb2.GenerateRequest
CONTEXT = 4096


def sampling(**fields: Any) -> Request:
    return Request(text="x", sampling=types_pb2.SamplingParams(**fields))


def stop(**fields: Any) -> Request:
    return Request(text="x", stop=types_pb2.StopConditions(**fields))


BAD = [
    ("unknown model", Request(text="x", model="other"), NotFound, "MODEL_NOT_FOUND", "model"),
    ("a path as model", Request(text="x", model="../x"), NotFound, "MODEL_NOT_FOUND", "model"),
    (
        "other revision",
        Request(text="x", revision="f" * 8),
        NotFound,
        "REVISION_NOT_FOUND",
        "revision",
    ),
    ("no input", Request(), InvalidRequest, "FIELD_REQUIRED", "input"),
    ("empty prompt", Request(text=""), InvalidRequest, "PROMPT_EMPTY", "text"),
    (
        "no token ids",
        Request(token_ids=types_pb2.TokenIds()),
        InvalidRequest,
        "PROMPT_EMPTY",
        "token_ids.ids",
    ),
    (
        "prompt as long as the context",
        Request(text="x" * CONTEXT),
        InvalidRequest,
        "PROMPT_TOO_LONG",
        "input",
    ),
    (
        "too many token ids",
        Request(token_ids=types_pb2.TokenIds(ids=[1] * 100_000)),
        InvalidRequest,
        "PROMPT_TOO_LONG",
        "token_ids.ids",
    ),
    ("10 MB prompt", Request(text="a" * 10_000_000), InvalidRequest, "FIELD_TOO_LARGE", "text"),
    (
        "token ids of 5 MB",
        Request(token_ids=types_pb2.TokenIds(ids=[1] * 5_000_000)),
        InvalidRequest,
        "FIELD_TOO_LARGE",
        None,
    ),
    (
        "prompt id out of range",
        Request(token_ids=types_pb2.TokenIds(ids=[1, 2, 256])),
        InvalidRequest,
        "TOKEN_ID_OUT_OF_RANGE",
        "token_ids.ids[2]",
    ),
    (
        "stop id out of range",
        stop(token_ids=[0, 2**32 - 1]),
        InvalidRequest,
        "TOKEN_ID_OUT_OF_RANGE",
        "stop.token_ids[1]",
    ),
    (
        "biased id out of range",
        sampling(logit_bias={256: 1.0}),
        InvalidRequest,
        "TOKEN_ID_OUT_OF_RANGE",
        "sampling.logit_bias[256]",
    ),
    ("max_tokens 0", stop(max_tokens=0), InvalidRequest, "FIELD_OUT_OF_RANGE", "stop.max_tokens"),
    (
        "max_tokens beyond the context",
        stop(max_tokens=CONTEXT),
        InvalidRequest,
        "FIELD_OUT_OF_RANGE",
        "stop.max_tokens",
    ),
    (
        "max_tokens near 2^32",
        stop(max_tokens=2**32 - 1),
        InvalidRequest,
        "FIELD_OUT_OF_RANGE",
        "stop.max_tokens",
    ),
    (
        "min_tokens beyond max_tokens",
        stop(min_tokens=CONTEXT),
        InvalidRequest,
        "FIELD_OUT_OF_RANGE",
        "stop.min_tokens",
    ),
    (
        "100,000 stop strings",
        stop(strings=["a"] * 100_000),
        InvalidRequest,
        "FIELD_TOO_LARGE",
        "stop.strings",
    ),
    (
        "empty stop string",
        stop(strings=["a", ""]),
        InvalidRequest,
        "FIELD_OUT_OF_RANGE",
        "stop.strings[1]",
    ),
    ("n = 10^9", sampling(n=10**9), InvalidRequest, "FIELD_OUT_OF_RANGE", "sampling.n"),
    ("n = 0", sampling(n=0), InvalidRequest, "FIELD_OUT_OF_RANGE", "sampling.n"),
    (
        "temperature NaN",
        sampling(temperature=math.nan),
        InvalidRequest,
        "FIELD_NOT_FINITE",
        "sampling.temperature",
    ),
    (
        "top_p infinite",
        sampling(top_p=math.inf),
        InvalidRequest,
        "FIELD_NOT_FINITE",
        "sampling.top_p",
    ),
    (
        "bias minus infinity",
        sampling(logit_bias={1: -math.inf}),
        InvalidRequest,
        "FIELD_NOT_FINITE",
        "sampling.logit_bias[1]",
    ),
    (
        "constraint",
        Request(text="x", constraint=types_pb2.Constraint(regex="a+")),
        Unsupported,
        "CONSTRAINT_UNSUPPORTED",
        "constraint",
    ),
    (
        "request id with a line break",
        Request(text="x", request_id="a\nb"),
        InvalidRequest,
        "FIELD_MALFORMED",
        "request_id",
    ),
]


@asynccontextmanager
async def beside_a_neighbour() -> AsyncIterator[LocalWorker]:
    """A worker on which a stream runs all the time; in the end that stream is what it would have been alone."""
    runner = FakeRunner(num_slots=4, capacity=CONTEXT)
    async with worker_of(runner) as worker, asyncio.TaskGroup() as group:
        neighbour = group.create_task(
            worker.ask("neighbour", stop={"max_tokens": 1500}, sampling={"seed": 7})
        )
        yield worker
        answer = await neighbour
        answer.check_whole()
        assert answer.ids() == fake_completion(tuple(b"neighbour"), num_tokens=1500, seed=7)
    assert not runner.violations


@pytest.mark.parametrize(
    ("request_", "cls", "reason", "field"),
    [case[1:] for case in BAD],
    ids=[case[0] for case in BAD],
)
async def test_a_wrong_request_gets_its_reason_and_field(
    request_: Request, cls: type[Exception], reason: str, field: str | None
) -> None:
    async with beside_a_neighbour() as worker:
        answer = await worker.ask(request_)
        assert type(answer.error) is cls, answer.error
        assert answer.error is not None
        assert (answer.error.reason, answer.error.field) == (reason, field)
        assert answer.seqs == []
        # In both, but a client that learns of the end first never sees the initial metadata.
        assert answer.trailing["lepton-request-id"] == answer.initial.get(
            "lepton-request-id", answer.trailing["lepton-request-id"]
        )
        assert len(str(answer.trailing["lepton-trace-id"])) == 32
        assert "Traceback" not in answer.error.message


async def test_messages_that_are_no_protobuf_are_refused_as_malformed() -> None:
    """Invalid UTF-8, cut-off and random bytes; random bytes that happen to parse end typed as well."""
    whole = Request(text="hello", model="fake", stop=types_pb2.StopConditions(max_tokens=3))
    raw = whole.SerializeToString()
    dice = random.Random(1)
    cases = [b"\x2a\x02\xff\xfe", raw[:-1], raw[:7]]
    cases += [dice.randbytes(dice.randint(1, 60)) for _ in range(40)]
    cases += [raw[:i] + bytes([raw[i] ^ 0x55]) + raw[i + 1 :] for i in range(len(raw))]
    async with beside_a_neighbour() as worker:
        answers = [await worker.ask(case) for case in cases]
    for answer in answers[:3]:
        assert answer.error is not None
        assert answer.error.reason == "MALFORMED_MESSAGE"
    codes = {answer.code for answer in answers if answer.error}
    assert codes <= {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.PERMISSION_DENIED,
    }


async def test_a_prompt_that_is_too_long_is_told_with_both_numbers() -> None:
    async with worker_of(FakeRunner(capacity=32)) as worker:
        answer = await worker.ask("x" * 40)
        assert answer.error is not None
        assert "40" in answer.error.message
        assert "32" in answer.error.message
        answer = await worker.ask("x" * 30, stop={"max_tokens": 3})
        assert answer.error is not None
        assert "leaves 2" in answer.error.message
        answer = await worker.ask("x" * 31)
        answer.check_whole()
        assert len(answer.ids()) == 1


async def test_only_routers_may_continue_a_stream() -> None:
    request = Request(text="x", continuation=a_continuation([1]))
    async with worker_of(FakeRunner(), token="secret") as worker:
        answer = await worker.ask(request)
        assert isinstance(answer.error, Forbidden)
        assert answer.error.reason == "ROUTER_ONLY_FIELD"
        answer = await worker.ask(request, metadata=[("lepton-cluster-token", "secret")])
        assert answer.error is None


def a_continuation(*choices: list[int], **fields: Any) -> inference_pb2.Continuation:
    return inference_pb2.Continuation(
        choices=[inference_pb2.ContinuedChoice(token_ids=ids) for ids in choices],
        **{"next_seq": 2, "attempt": 1, "prompt_tokens": 1, **fields},
    )


BAD_CONTINUATIONS = {
    "another prompt": (
        Request(text="x", continuation=a_continuation([1], prompt_tokens=2)),
        Unsupported,
        Reason.CONTINUATION_UNSUPPORTED,
        "continuation.prompt_tokens",
    ),
    "an id that does not exist": (
        Request(text="x", continuation=a_continuation([1, 256])),
        InvalidRequest,
        Reason.TOKEN_ID_OUT_OF_RANGE,
        "continuation.choices[0].token_ids[1]",
    ),
    "as long as it may be, without an end": (
        Request(text="x", stop={"max_tokens": 3}, continuation=a_continuation([1, 2, 3])),
        InvalidRequest,
        Reason.FIELD_OUT_OF_RANGE,
        "continuation.choices[0].token_ids",
    ),
    "longer than the context": (
        Request(text="x", continuation=a_continuation([1] * 70)),
        InvalidRequest,
        Reason.FIELD_OUT_OF_RANGE,
        "continuation.choices[0].token_ids",
    ),
    "longer than it may be, with an end": (
        Request(
            text="x",
            sampling={"n": 2},
            stop={"max_tokens": 3},
            continuation=inference_pb2.Continuation(
                next_seq=2,
                attempt=1,
                prompt_tokens=1,
                choices=[
                    {"token_ids": [1]},
                    {"token_ids": [1] * 4, "end": {"reason": types_pb2.FINISH_REASON_LENGTH}},
                ],
            ),
        ),
        InvalidRequest,
        Reason.FIELD_OUT_OF_RANGE,
        "continuation.choices[1].token_ids",
    ),
    "behind a stop id": (
        Request(text="x", stop={"token_ids": [7]}, continuation=a_continuation([1, 7, 2])),
        InvalidRequest,
        Reason.FIELDS_CONTRADICT,
        "continuation.choices[0].token_ids",
    ),
    "behind a stop string": (
        Request(text="x", stop={"strings": ["ab"]}, continuation=a_continuation([*b"cabd"])),
        InvalidRequest,
        Reason.FIELDS_CONTRADICT,
        "continuation.choices[0].token_ids",
    ),
    "with an earlier choice missing": (
        Request(text="x", sampling={"n": 2}, continuation=a_continuation([1])),
        InvalidRequest,
        Reason.FIELDS_CONTRADICT,
        "continuation.choices",
    ),
}


@pytest.mark.parametrize("keeps_decoded", [False, True], ids=["portable", "native"])
async def test_a_continuation_that_cannot_be_is_refused_and_nobody_else_notices(
    *, keeps_decoded: bool
) -> None:
    runner = FakeRunner(keeps_decoded=keeps_decoded)
    async with worker_of(runner) as worker:
        for name, (request, error, reason, field) in BAD_CONTINUATIONS.items():
            answer, good = await asyncio.gather(worker.ask(request), worker.ask("abc"))
            assert isinstance(answer.error, error), (name, answer)
            assert (answer.error.reason, answer.error.field) == (reason, field), name
            good.check_whole()
        await worker.idle()
    assert not runner.violations


async def test_a_full_queue_is_refused_with_a_hint_and_running_calls_finish() -> None:
    runner = FakeRunner(num_slots=1, capacity=64)
    async with worker_of(runner, waiting_sequences_max=2) as worker:
        with runner.hold():
            calls = [
                asyncio.ensure_future(
                    worker.ask("abc", stop={"max_tokens": 5}, sampling={"seed": i})
                )
                for i in range(8)
            ]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        answers = await asyncio.gather(*calls)
    refused = [a for a in answers if a.error]
    assert refused
    for answer in refused:
        assert answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert answer.error is not None
        assert answer.error.reason == "QUEUE_FULL"
        assert answer.error.retry_after_s is not None
    for answer in answers:
        if not answer.error:
            assert answer.ids() in [
                fake_completion((97, 98, 99), num_tokens=5, seed=i) for i in range(8)
            ]


async def test_who_would_not_wait_is_refused_while_no_row_is_free() -> None:
    runner = FakeRunner(num_slots=1, capacity=64)
    async with worker_of(runner) as worker:
        with runner.hold():
            first = asyncio.ensure_future(worker.ask("abc", stop={"max_tokens": 20}))
            await asyncio.to_thread(runner.wait_entered)
            hasty = asyncio.ensure_future(
                worker.ask("abc", service_level={"queue_timeout_ms": 0}, stop={"max_tokens": 5})
            )
            await until(lambda: worker.running.engine.load().waiting == 1, what="a full row")
        refused = await hasty
        (await first).check_whole()
        assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.error is not None
        assert refused.error.reason == "QUEUE_TIMEOUT"
        assert refused.error.retry_after_s is not None
        alone = await worker.ask(
            "abc", service_level={"queue_timeout_ms": 0}, stop={"max_tokens": 5}
        )
        alone.check_whole()


async def test_request_ids_from_metadata_are_used_only_when_they_are_clean() -> None:
    async with worker_of(FakeRunner()) as worker:
        answer = await worker.ask(
            "x", stop={"max_tokens": 1}, metadata=[("lepton-request-id", "from-router")]
        )
        assert answer.started is not None
        assert answer.started.request_id == "from-router"
        answer = await worker.ask(
            "x", stop={"max_tokens": 1}, metadata=[("lepton-request-id", "a b;c")]
        )
        assert answer.started is not None
        assert answer.started.request_id.startswith("req-")
