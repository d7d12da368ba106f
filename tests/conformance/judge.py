"""Did a client do what the case asks? Pure: reports and what the gates saw go in, what is wrong comes out in words."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import jsonschema
from google.protobuf import json_format

from common import oracle
from lepton.v1 import inference_pb2
from tests.conformance.case import Case, Report, Seen, WantedError

__all__ = ["faults_of"]

_SHOWN_CHARS: Final = 120


def faults_of(case: Case, reports: list[Report], seen: Seen) -> list[str]:
    """What is wrong, in words; nothing when the client passes."""
    found = [fault for report in reports for fault in _of_report(case, report)]
    if case.expect.same_every_time and len({tuple(r.text) for r in reports}) > 1:
        found.append(f"repeats differ: {_short([r.text for r in reports])}")
    return [*found, *_of_seen(case, seen)]


def _of_report(case: Case, report: Report) -> Iterator[str]:
    expect = case.expect
    yield from _error(expect.error, report.error)
    if report.cancelled is not expect.cancelled:
        yield f"cancelled is {report.cancelled}, not {expect.cancelled}"
    try:
        events = [json_format.ParseDict(e, inference_pb2.Event()) for e in report.events]
    except json_format.ParseError as error:
        yield f"an event is not the JSON form of Event: {error}"
        return
    if expect.seq_whole or expect.prefix_whole:
        yield from _order(events, is_whole=expect.seq_whole)
    if expect.text is not None and tuple(report.text) != expect.text:
        yield f"text is {_short(report.text)}, not {_short(list(expect.text))}"
    if events and not expect.cancelled and report.error is None:
        yield from _texts_agree(report, events)
    if expect.finish is not None and tuple(report.finish) != expect.finish:
        yield f"finish is {report.finish}, not {list(expect.finish)}"
    if expect.oracle:
        yield from _oracle(case, events)
    if expect.migrated and not any(e.HasField("migrated") for e in events):
        yield "the client did not see that the stream moved"
    if expect.moved_tokens is not None:
        has_ids = any(e.delta.token_ids for e in events)
        if has_ids is not expect.moved_tokens:
            yield f"deltas have token ids: {has_ids}"
    yield from _numbers(case, events)
    yield from _constrained(case, report)
    if expect.response is not None:
        yield from _subset("response", expect.response, report.response)


def _error(wanted: WantedError | None, got: dict[str, Any] | None) -> Iterator[str]:
    if wanted is None:
        if got is not None:
            yield f"an error: {_short(got)}"
        return
    if got is None:
        yield f"no error, where {wanted.code} {wanted.reason} is due"
        return
    for key in ("code", "reason", "field"):
        value = getattr(wanted, key)
        if value is not None and got.get(key) != value:
            yield f"error.{key} is {got.get(key)!r}, not {value!r} ({_short(got.get('message'))})"
    if wanted.retry_after is not None:
        has = got.get("retry_after_s") is not None
        if has is not wanted.retry_after:
            yield f"error.retry_after_s is {got.get('retry_after_s')}"
    if wanted.request_id is not None and got.get("has_request_id") is not wanted.request_id:
        yield f"error.has_request_id is {got.get('has_request_id')}"
    if not got.get("message"):
        yield "the error has no message"


def _order(events: list[inference_pb2.Event], *, is_whole: bool) -> Iterator[str]:
    seqs = [event.seq for event in events]
    if seqs != list(range(len(seqs))):
        wrong = next(i for i, seq in enumerate(seqs) if seq != i)
        yield f"seq {seqs[wrong]} came where {wrong} was due"
    kinds = [event.WhichOneof("kind") for event in events]
    if not kinds:
        yield "no event"
        return
    if kinds[0] != "started" or kinds.count("started") > 1:
        yield "the stream does not begin with its only Started"
    if is_whole and (kinds[-1] != "finished" or kinds.count("finished") > 1):
        yield f"the stream does not end with its only Finished, but with {kinds[-1]}"


def _texts_agree(report: Report, events: list[inference_pb2.Event]) -> Iterator[str]:
    if not report.text:
        yield "the report has events but no text"
        return
    for index, text in enumerate(report.text):
        joined = "".join(e.delta.text for e in events if e.delta.index == index)
        if joined != text:
            yield f"choice {index}: text {_short(text)}, but the deltas say {_short(joined)}"


def _oracle(case: Case, events: list[inference_pb2.Event]) -> Iterator[str]:
    request = json_format.ParseDict(case.command.request, inference_pb2.GenerateRequest())
    prompt = list(request.token_ids.ids) or oracle.encode(request.text)
    seed = request.sampling.seed if request.sampling.temperature > 0 else None
    for index in range(request.sampling.n or 1):
        got = [i for e in events if e.delta.index == index for i in e.delta.token_ids]
        banned = request.stop.ignore_eos
        wanted = oracle.tokens(oracle.REVISION, prompt, choice=index, seed=seed)
        for position, (mine, right) in enumerate(zip(got, wanted, strict=False)):
            if mine != right and not (banned and right == oracle.EOS_ID):
                yield f"choice {index}: token {position} is {mine}, not {right}"
                break
        if not got:
            yield f"choice {index} has no tokens"


def _numbers(case: Case, events: list[inference_pb2.Event]) -> Iterator[str]:
    expect = case.expect
    finished = next((e.finished for e in events if e.HasField("finished")), None)
    if expect.usage is not None:
        for name, number in expect.usage.items():
            got = getattr(finished.usage, name) if finished else None
            if got != number:
                yield f"usage.{name} is {got}, not {number}"
    if expect.timings and not (finished and finished.timings.prefill_us):
        yield "Finished does not say where the time went"
    if expect.logprobs is not None:
        for event in events:
            delta = event.delta
            if len(delta.logprobs) != len(delta.token_ids):
                yield f"event {event.seq}: {len(delta.logprobs)} logprobs, {len(delta.token_ids)} ids"
            if any(len(at.top) < expect.logprobs for at in delta.logprobs):
                yield f"event {event.seq}: fewer than {expect.logprobs} alternatives"


def _constrained(case: Case, report: Report) -> Iterator[str]:
    if not case.expect.json_schema:
        return
    constraint = case.command.request.get("constraint", {})
    schema = json.loads(constraint.get("jsonSchema") or constraint.get("json_schema") or "{}")
    for text in report.text:
        try:
            jsonschema.validate(json.loads(text), schema)
        except (ValueError, jsonschema.ValidationError) as error:
            yield f"{_short(text)} is not what the schema says: {_short(str(error))}"


def _subset(where: str, wanted: Any, got: Any) -> Iterator[str]:
    if isinstance(wanted, dict):
        if not isinstance(got, dict):
            yield f"{where} is {_short(got)}"
            return
        for key, value in wanted.items():
            yield from _subset(f"{where}.{key}", value, got.get(key))
    elif isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        for index, value in enumerate(wanted):
            yield from _subset(f"{where}[{index}]", value, got[index])
    elif wanted != got:
        yield f"{where} is {_short(got)}, not {_short(wanted)}"


def _of_seen(case: Case, seen: Seen) -> Iterator[str]:
    expect = case.expect
    if case.fault.is_any and not seen.num_faults:
        yield "what the case wants to happen did not happen: the answer ended before"
    counts = Counter(call.method for call in seen.calls)
    for method, (low, high) in expect.calls.items():
        if not low <= counts[method] <= high:
            yield f"{counts[method]} calls of {method}, not {low} to {high}"
    reached = tuple(call.gate for call in seen.calls if call.method == "Generate")
    if expect.routers is not None and reached != expect.routers:
        yield f"Generate reached {list(reached)}, not {list(expect.routers)}"
    for call in seen.calls:
        for key, value in expect.metadata.items():
            if call.metadata.get(key) != value:
                yield f"{call.method} has metadata {key}: {call.metadata.get(key)!r}, not {value!r}"
        if expect.trace_id and expect.trace_id not in call.metadata.get("traceparent", ""):
            yield f"{call.method} has traceparent {call.metadata.get('traceparent')!r}"
    if expect.apart_s is not None:
        at = [call.at for call in seen.calls if call.method == "Generate"]
        for before, after in itertools.pairwise(at):
            if after - before < expect.apart_s:
                yield f"asked again after {after - before:.3f} s; {expect.apart_s:g} s were asked for"
    if expect.idle_within_s is not None and seen.idle_after_s is None:
        yield f"a worker still computed {expect.idle_within_s:g} s later"
    for seconds in seen.report_s:
        if seconds > expect.within_s:
            yield f"the report came after {seconds:.1f} s; {expect.within_s:g} s were allowed"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
