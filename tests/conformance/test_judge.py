"""The judge passes what is right and notices what is wrong: a control for each thing that it looks at."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format

from common import oracle
from lepton.v1 import inference_pb2
from tests.conformance.case import Call, Case, Report, Seen
from tests.conformance.clients import load_clients
from tests.conformance.judge import faults_of
from tests.conformance.suite import load_cases

PROMPT = "judge me"
NUM = 3


def events() -> list[dict[str, Any]]:
    """What a right client reports of PROMPT."""
    wanted = oracle.tokens(oracle.REVISION, oracle.encode(PROMPT))
    made = [inference_pb2.Event(started=inference_pb2.Started(worker_id="w1"))]
    for _ in range(NUM):
        token_id = next(wanted)
        text = oracle.text_of(token_id).decode()
        made.append(inference_pb2.Event(delta=inference_pb2.Delta(text=text, token_ids=[token_id])))
    finished = inference_pb2.Finished(usage={"completion_tokens": NUM}, timings={"prefill_us": 9})
    made.append(inference_pb2.Event(finished=finished))
    for seq, event in enumerate(made):
        event.seq = seq
    return [json_format.MessageToDict(event) for event in made]


def text() -> str:
    return "".join(event.get("delta", {}).get("text", "") for event in events())


def case(**expect: Any) -> Case:
    return Case.model_validate(
        {
            "name": "a-case",
            "about": "x",
            "cluster": "oracle",
            "command": {"op": "generate", "request": {"text": PROMPT}},
            "expect": expect,
        }
    )


def report(**changes: Any) -> Report:
    fields = {"id": "c", "events": events(), "text": [text()], "finish": ["LENGTH"], **changes}
    return Report.model_validate(fields)


def call(method: str = "Generate", at: float = 0.0, **metadata: str) -> Call:
    return Call(method=method, at=at, gate="router1", metadata=metadata, request=b"")


ALL = {
    "oracle": True,
    "seq_whole": True,
    "finish": ["LENGTH"],
    "usage": {"completion_tokens": NUM},
    "timings": True,
    "moved_tokens": True,
    "calls": {"Generate": [1, 1]},
}


def without(seq: int) -> list[dict[str, Any]]:
    return [event for event in events() if int(event.get("seq", 0)) != seq]


def test_a_right_client_passes() -> None:
    assert faults_of(case(**ALL, text=[text()]), [report()], Seen(calls=[call()])) == []


ERROR = {"code": "UNAVAILABLE", "reason": "NO_WORKER", "message": "m", "retry_after_s": None}
WRONG: dict[str, tuple[Case, Report, Seen, str]] = {
    "a gap": (case(**ALL), report(events=without(2)), Seen(calls=[call()]), "seq 3 came where 2"),
    "an event twice": (
        case(seq_whole=True),
        report(events=[*events()[:2], *events()[1:]]),
        Seen(),
        "seq 1 came where 2",
    ),
    "no end": (case(seq_whole=True), report(events=events()[:-1]), Seen(), "Finished"),
    "no beginning": (case(seq_whole=True), report(events=events()[1:]), Seen(), "Started"),
    "another token": (
        case(oracle=True),
        report(events=[{"seq": 1, "delta": {"text": text(), "tokenIds": [300]}}]),
        Seen(),
        "token 0 is 300",
    ),
    "no tokens": (case(oracle=True), report(events=[], text=[]), Seen(), "no tokens"),
    "another text": (case(text=["other"]), report(), Seen(), "text is"),
    "text unlike the deltas": (case(), report(text=["x"]), Seen(), "deltas say"),
    "another finish": (case(finish=["STOP"]), report(), Seen(), "finish is"),
    "an error": (case(), report(error=ERROR), Seen(), "an error"),
    "no error": (
        case(error={"code": "NOT_FOUND", "reason": "MODEL_NOT_FOUND"}),
        report(),
        Seen(),
        "no error",
    ),
    "another reason": (
        case(error={"code": "UNAVAILABLE", "reason": "WORKER_LOST"}),
        report(error=ERROR),
        Seen(),
        "error.reason is 'NO_WORKER'",
    ),
    "no retry_after": (
        case(error={"code": "UNAVAILABLE", "reason": "NO_WORKER", "retry_after": True}),
        report(error=ERROR),
        Seen(),
        "retry_after_s",
    ),
    "not left": (case(cancelled=True), report(), Seen(), "cancelled is False"),
    "still computing": (case(idle_within_s=3), report(), Seen(), "still computed"),
    "other counts": (case(usage={"completion_tokens": 4}), report(), Seen(), "completion_tokens"),
    "no logprobs": (case(logprobs=1), report(), Seen(), "0 logprobs, 1 ids"),
    "no move": (case(migrated=True), report(), Seen(), "did not see"),
    "asked too often": (
        case(calls={"Generate": [1, 1]}),
        report(),
        Seen(calls=[call(), call()]),
        "2 calls of Generate",
    ),
    "asked elsewhere": (
        case(routers=["router1", "router2"]),
        report(),
        Seen(calls=[call(), call()]),
        "reached ['router1', 'router1']",
    ),
    "asked too soon": (
        case(apart_s=0.3),
        report(),
        Seen(calls=[call(at=1.0), call(at=1.2)]),
        "after 0.200 s",
    ),
    "no caller": (case(metadata={"k": "v"}), report(), Seen(calls=[call()]), "metadata k"),
    "no trace": (case(trace_id="4bf9"), report(), Seen(calls=[call()]), "traceparent"),
    "too late": (case(within_s=1), report(), Seen(report_s=(2.0,)), "after 2.0 s"),
    "another response": (
        case(response={"models": [{"model": "a"}]}),
        report(response={"models": [{"model": "b"}]}),
        Seen(),
        "response.models[0].model is 'b'",
    ),
    "nothing happened": (
        case().model_copy(
            update={
                "fault": Case.model_fields["fault"].default.model_copy(
                    update={"cut_after_events": 5}
                )
            }
        ),
        report(),
        Seen(),
        "did not happen",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_noticed(what: str) -> None:
    judged, told, seen, words = WRONG[what]
    assert any(words in fault for fault in faults_of(judged, [told], seen))


def test_json_that_the_schema_refuses_is_noticed() -> None:
    judged = case(json_schema=True)
    judged.command.request["constraint"] = {"jsonSchema": '{"type": "integer"}'}
    assert faults_of(judged, [report(events=[], text=["7"])], Seen()) == []
    assert faults_of(judged, [report(events=[], text=['"7"'])], Seen())


def test_repeats_that_differ_are_noticed() -> None:
    told = [report(events=[], text=["a"]), report(events=[], text=["b"])]
    assert "repeats differ" in faults_of(case(same_every_time=True), told, Seen())[0]


def test_cases_and_clients_can_be_read() -> None:
    cases = load_cases()
    assert len({case.name for case in cases}) == len(cases) > 60
    assert "python" in load_clients()
