"""Every loss, repetition, hole and divergence that is planted is found, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.checker import Faults, check, compare_tokens
from chaos.expect import oracle_answer
from chaos.record import Answer, Received, Record
from common import oracle
from lepton.v1 import inference_pb2, types_pb2

WORKER = "w1"


def request(**fields: Any) -> inference_pb2.GenerateRequest:
    fields.setdefault("stop", {"max_tokens": 24, "ignore_eos": True})
    return inference_pb2.GenerateRequest(text="hello", **fields)


def expected(record: Record) -> Answer:
    return oracle_answer(record.request, revision=oracle.REVISION, seed=7)


def clean(name: str = "r", **fields: Any) -> Record:
    """A record of a perfect answer, two tokens an event."""
    record = Record(name=name, kind="test", request=request(**fields), sent_at=1.0, deadline_s=10.0)
    answer = expected(record)
    events = [
        inference_pb2.Event(started={"worker_id": WORKER, "revision": oracle.REVISION, "seed": 7})
    ]
    ends = []
    for index, choice in enumerate(answer.choices):
        assert choice.end is not None
        reason, string, _ = choice.end
        end = inference_pb2.ChoiceEnd(reason=reason)  # type: ignore[arg-type]
        if string:
            end.stop_string = string
        ends.append(end)
        rest = choice.text
        for start in range(0, len(choice.token_ids), 2):
            ids = choice.token_ids[start : start + 2]
            is_last = start + 2 >= len(choice.token_ids)
            cut = len(rest) if is_last else sum(len(oracle.text_of(i)) for i in ids)
            delta = inference_pb2.Delta(index=index, token_ids=ids, text=rest[:cut])
            rest = rest[cut:]
            for token_id, logprob, top in choice.logprobs[start : start + 2]:
                position = delta.logprobs.add(chosen={"token_id": token_id, "logprob": logprob})
                for top_id, top_logprob in top:
                    position.top.add(token_id=top_id, logprob=top_logprob)
            if is_last:
                delta.end.CopyFrom(end)
            events.append(inference_pb2.Event(delta=delta))
    usage = types_pb2.Usage(
        prompt_tokens=answer.prompt_tokens, completion_tokens=answer.completion_tokens
    )
    finished = inference_pb2.Finished(usage=usage, choices=ends)
    events.append(inference_pb2.Event(finished=finished))
    for seq, event in enumerate(events):
        event.seq = seq
        record.received.append(Received(1.0 + seq / 10, event))
    record.code = "OK"
    record.finished_twice = finished.SerializeToString()
    record.ended_at = 5.0
    return record


def judged(*records: Record, **options: Any) -> Faults:
    return check(records, expected, **options)


def counts(faults: Faults) -> dict[str, int]:
    names = (
        "lost", "duplicated", "gapped", "reordered", "diverged", "wrong_revision", "ghosts",
    )  # fmt: skip
    return {name: getattr(faults, name) for name in names if getattr(faults, name)}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"sampling": {"temperature": 1.0, "seed": 7}},
        {"sampling": {"temperature": 1.0, "n": 3}},
        {"output": {"logprobs": 2}},
        {"stop": {"strings": [oracle.text_of(300).decode(), "a "], "max_tokens": 24}},
        {"stop": {"max_tokens": 24, "min_tokens": 10}},
    ],
)
def test_a_clean_record_is_clean(fields: dict[str, Any]) -> None:
    faults = judged(clean(**fields))
    assert counts(faults) == {}, faults.stories
    assert (faults.requests, faults.whole) == (1, 1)


def without_end(record: Record) -> None:
    record.code, record.reason, record.finished_twice = "UNAVAILABLE", "WORKER_LOST", None
    del record.received[-3:]


def unfinished(record: Record) -> None:
    record.finished_twice = None
    del record.received[-1]


def hanging(record: Record) -> None:
    record.code, record.finished_twice, record.ended_at = "", None, None
    del record.received[-3:]


def repeats_event(record: Record) -> None:
    record.received.insert(5, record.received[4])


def misses_event(record: Record) -> None:
    del record.received[4]


def swaps_events(record: Record) -> None:
    at = record.received
    at[4], at[5] = at[5], at[4]


def repeats_token(record: Record) -> None:
    ids = record.received[4].event.delta.token_ids
    ids.insert(0, record.received[3].event.delta.token_ids[-1])


def misses_token(record: Record) -> None:
    del record.received[4].event.delta.token_ids[0]


def changes_token(record: Record) -> None:
    record.received[4].event.delta.token_ids[0] ^= 1


def goes_another_way(record: Record) -> None:
    for one in record.received[4:-1]:
        for index in range(len(one.event.delta.token_ids)):
            one.event.delta.token_ids[index] ^= 5


def changes_text(record: Record) -> None:
    record.received[4].event.delta.text = "other "


def changes_end(record: Record) -> None:
    record.received[-2].event.delta.end.reason = types_pb2.FINISH_REASON_STOP


def changes_usage(record: Record) -> None:
    finished = record.received[-1].event.finished
    finished.usage.completion_tokens += 1
    record.finished_twice = finished.SerializeToString()


def other_revision(record: Record) -> None:
    record.received[0].event.started.revision = "ab" * 32


def speaks_on(record: Record) -> None:
    last = inference_pb2.Event(seq=len(record.received), delta={"token_ids": []})
    record.received.append(Received(9.0, last))


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (without_end, {"lost": 1}),
        (unfinished, {"lost": 1}),
        (hanging, {"lost": 1}),
        (repeats_event, {"duplicated": 1 + 2}),  # the event, and its two tokens
        (misses_event, {"gapped": 1 + 2}),
        (swaps_events, {"reordered": 1}),
        (repeats_token, {"duplicated": 1}),
        (misses_token, {"gapped": 1}),
        (changes_token, {"diverged": 1}),
        (goes_another_way, {"diverged": 1}),
        (changes_text, {"diverged": 1}),
        (changes_end, {"diverged": 1}),
        (changes_usage, {"diverged": 1}),
        (other_revision, {"wrong_revision": 1}),
        (speaks_on, {"ghosts": 1, "lost": 1}),
    ],
)
def test_what_is_planted_is_found(plant: Callable[[Record], None], found: dict[str, int]) -> None:
    good, bad = clean("good"), clean("bad")
    plant(bad)
    faults = judged(good, bad, revisions={oracle.REVISION})
    shown = counts(faults)
    assert {name: shown.get(name) for name in found} == found, faults.stories
    others = set(shown) - set(found)
    assert others <= {"duplicated", "gapped", "diverged"} if plant is swaps_events else not others
    assert any(story.startswith("bad") for story in faults.stories) or plant in {
        speaks_on, changes_text, changes_end,
    }  # fmt: skip


def test_an_error_that_is_allowed_is_counted_and_not_lost() -> None:
    bad = clean()
    without_end(bad)
    faults = judged(bad, allowed={"WORKER_LOST"})
    assert faults.lost == 0
    assert faults.errors == {"WORKER_LOST": 1}


def test_a_request_that_its_client_gave_up_is_not_lost_but_still_compared() -> None:
    bad = clean()
    goes_another_way(bad)
    without_end(bad)
    bad.cancelled_at = 2.0
    assert counts(judged(bad)) == {"diverged": 1}


def test_an_answer_after_its_deadline_is_late() -> None:
    record = clean()
    record.ended_at = 13.5
    assert judged(record).late == pytest.approx(2.5)


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(0, 40), st.integers(1, 20))
def test_a_repetition_or_a_hole_has_its_length(seed: int, num: int, at: int, length: int) -> None:
    rng = random.Random(seed)
    answer = [rng.randrange(1 << 30) for _ in range(num + at + length + 8)]
    repeated = answer[: at + length] + answer[at:]
    assert compare_tokens(repeated, answer) == (length, 0, None)
    holed = answer[:at] + answer[at + length :]
    assert compare_tokens(holed, answer) == (0, length, None)
    assert compare_tokens(answer[:num], answer) == (0, 0, None)
    other = [*answer[:at], -1, *answer[at + 1 :]]
    assert compare_tokens(other, answer) == (0, 0, at)
