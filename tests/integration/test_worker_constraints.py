"""A worker with the demo model, asked for texts of a certain form over real gRPC."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from common.errors import InvalidRequest, Reason, Unsupported
from lepton.v1 import inference_pb2, types_pb2
from tests.support.grammars import bomb, grammar_compiler
from tests.support.processes import DEMO_MODEL
from tests.support.tiny_models import load_tiny
from tests.support.worker import Answer, LocalWorker, table_of, worker_of
from worker.app import facts_of
from worker.runtime.grammar.limits import GrammarLimits

STOP, LENGTH = types_pb2.FINISH_REASON_STOP, types_pb2.FINISH_REASON_LENGTH
BOMB = types_pb2.Constraint(grammar=bomb().texts[0])


@pytest.fixture(name="worker")
async def _worker() -> AsyncIterator[LocalWorker]:
    loaded = load_tiny(DEMO_MODEL, context_max=1024)
    async with worker_of(
        loaded.runner,
        model=facts_of(loaded),
        tokenizer=loaded.tokenizer,
        grammars=grammar_compiler(table_of(loaded), GrammarLimits(compile_s_max=0.5)),
    ) as worker:
        yield worker


def request(
    text: str, constraint: types_pb2.Constraint | None = None, **fields: Any
) -> inference_pb2.GenerateRequest:
    return inference_pb2.GenerateRequest(
        chat={"messages": [{"role": types_pb2.ROLE_USER, "content": text}]},
        constraint=constraint,
        **fields,
    )


def seeded(seed: int, temperature: float = 0.8, **more: Any) -> dict[str, Any]:
    return {"seed": seed, "temperature": temperature, **more}


SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    },
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 20},
            "born": {"type": "string", "format": "date"},
            "tags": {"type": "array", "items": {"enum": ["a", "b", 3, None]}, "maxItems": 4},
        },
        "required": ["name", "born", "tags"],
        "additionalProperties": False,
    },
    {
        "$ref": "#/$defs/tree",
        "$defs": {
            "tree": {
                "type": "object",
                "properties": {
                    "v": {"type": "number", "minimum": 0, "maximum": 9},
                    "c": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2},
                },
                "required": ["v"],
                "additionalProperties": False,
            }
        },
    },
    {"anyOf": [{"type": "boolean"}, {"type": "string", "pattern": "^[a-z]+@[a-z]+$"}]},
]


async def test_every_complete_answer_validates_against_its_schema(worker: LocalWorker) -> None:
    """All at once, so that rows with different grammars share their steps."""
    asked = [
        (schema, request("Alice is 7.", types_pb2.Constraint(json_schema=json.dumps(schema)),
                         sampling=seeded(seed, temperature), stop={"max_tokens": 250}))
        for schema in SCHEMAS
        for seed, temperature in ((1, 0.0), (2, 0.7), (3, 1.0), (4, 2.0))
    ]  # fmt: skip
    answers = await asyncio.gather(*(worker.ask(one) for _, one in asked))
    complete = 0
    for (schema, _), answer in zip(asked, answers, strict=True):
        answer.check_whole()
        if answer.end().reason == STOP:
            complete += 1
            Draft202012Validator(
                schema, format_checker=Draft202012Validator.FORMAT_CHECKER
            ).validate(json.loads(answer.text()))
    assert complete > len(asked) / 3


async def test_the_other_kinds(worker: LocalWorker) -> None:
    for seed in range(4):
        options: dict[str, Any] = {"sampling": seeded(seed), "stop": {"max_tokens": 200}}
        matched = await worker.ask(
            request("When?", types_pb2.Constraint(regex=r"\d{4}-\d\d( [a-z]{2,5})?"), **options)
        )
        assert re.fullmatch(r"[0-9]{4}-[0-9]{2}( [a-z]{2,5})?", matched.text())
        chosen = await worker.ask(
            request("Good?", types_pb2.Constraint(literals={"texts": ["yes", "yes, but", "no"]}))
        )
        assert chosen.text() in {"yes", "yes, but", "no"}
        summed = await worker.ask(
            request(
                "Sum?",
                types_pb2.Constraint(grammar='start: N ("+" N)+\nN: /[0-9]{1,2}/'),
                **options,
            )
        )
        if summed.end().reason == STOP:
            assert re.fullmatch(r"[0-9]{1,2}(\+[0-9]{1,2})+", summed.text())
        anything = await worker.ask(
            request("JSON?", types_pb2.Constraint(json_object={}), **options)
        )
        if anything.end().reason == STOP:
            assert isinstance(json.loads(anything.text()), dict)


async def test_a_complete_grammar_stops_at_once_and_keeps_its_last_token(
    worker: LocalWorker,
) -> None:
    answer = await worker.ask(request("Say abc.", types_pb2.Constraint(regex="abc")))
    answer.check_whole()
    assert (answer.text(), answer.end().reason) == ("abc", STOP)
    assert answer.end().WhichOneof("matched") is None
    assert answer.finished is not None
    assert answer.finished.usage.completion_tokens == len(answer.ids())
    empty = await worker.ask(request("Say nothing.", types_pb2.Constraint(regex="")))
    empty.check_whole()
    assert (empty.text(), empty.end().reason) == ("", STOP)


async def test_what_cuts_an_answer_cuts_it(worker: LocalWorker) -> None:
    digits = types_pb2.Constraint(regex="[0-9]{50}")
    short = await worker.ask(request("Digits.", digits, stop={"max_tokens": 5}))
    assert (short.end().reason, len(short.ids())) == (LENGTH, 5)
    stopped = await worker.ask(
        request("Digits.", types_pb2.Constraint(regex="12345"), stop={"strings": ["4"]})
    )
    assert (stopped.text(), stopped.end().reason, stopped.end().stop_string) == ("123", STOP, "4")


async def test_each_choice_stands_where_it_is(worker: LocalWorker) -> None:
    expression = r"[a-z]{1,10}( [a-z]{1,10}){0,3}"
    answer = await worker.ask(
        request("Words.", types_pb2.Constraint(regex=expression), sampling=seeded(5, 1.5, n=4))
    )
    answer.check_whole()
    texts = [answer.text(choice) for choice in range(4)]
    assert len(set(texts)) > 1
    assert [text for text in texts if not re.fullmatch(expression, text)] == []
    again = [
        await worker.ask(
            request("Words.", types_pb2.Constraint(regex=expression), sampling=seeded(5, 1.5, n=2))
        )
    ]
    assert [again[0].text(0), again[0].text(1)] == texts[:2]


async def test_log_probabilities_are_the_models_own(worker: LocalWorker) -> None:
    """The first position is the same distribution with and without a constraint."""
    options: dict[str, Any] = {"output": {"logprobs": 20}, "stop": {"max_tokens": 1}}
    free = await worker.ask(request("What is 2 + 3?", **options))
    bound = await worker.ask(request("What is 2 + 3?", types_pb2.Constraint(regex="zz"), **options))
    (first,), (second,) = free.deltas[0].logprobs, bound.deltas[0].logprobs
    assert list(first.top) == list(second.top)
    assert second.chosen.logprob < second.top[0].logprob
    assert math.fsum(math.exp(top.logprob) for top in second.top) <= 1 + 1e-5


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"constraint": {"regex": "("}}, Reason.GRAMMAR_INVALID, "constraint.regex"),
        ({"constraint": {"json_schema": '{"not": {}}'}}, Reason.GRAMMAR_UNSUPPORTED, "constraint.json_schema"),
        ({"constraint": {"grammar": BOMB.grammar}}, Reason.GRAMMAR_TOO_LARGE, "constraint.grammar"),
        ({"constraint": {"regex": "a"}, "stop": {"min_tokens": 9}}, Reason.GRAMMAR_UNSATISFIABLE, "constraint"),
        (
            {"constraint": {"regex": "[0-9]"}, "sampling": {"logit_bias": dict.fromkeys(range(768), -100)}},
            Reason.GRAMMAR_UNSATISFIABLE,
            "constraint",
        ),
        ({"constraint": {"regex": "a"}, "stop": {"ignore_eos": True}}, Reason.FIELDS_CONTRADICT, "stop.ignore_eos"),
        ({"constraint": {}}, Reason.FIELD_REQUIRED, "constraint"),
    ],
    ids=["invalid", "unsupported", "bomb", "min_tokens", "biases", "ignore_eos", "no kind"],
)  # fmt: skip
async def test_what_cannot_be_followed_is_typed(
    worker: LocalWorker, fields: dict[str, Any], reason: Reason, field: str
) -> None:
    refused = await worker.ask(request("x", **fields))
    assert isinstance(refused.error, InvalidRequest)
    assert (refused.error.reason, refused.error.field) == (reason, field)
    await worker.idle()


async def test_a_stream_does_not_notice_the_bombs_beside_it(worker: LocalWorker) -> None:
    """Bit-identical, and told of each token while bombs are tried out."""
    watched = request(
        "What is Lepton?", sampling=seeded(11, 0.9), stop={"max_tokens": 300, "ignore_eos": True}
    )
    alone = await worker.ask(watched)
    bombs = [types_pb2.Constraint(grammar=f"{BOMB.grammar}\n// {number}") for number in range(3)]

    async def explode() -> list[Answer]:
        return await asyncio.gather(*(worker.ask(request("x", one)) for one in bombs))

    exploding = asyncio.ensure_future(explode())
    finished_first = 0
    while not exploding.done():
        beside = await worker.ask(watched)
        finished_first += not exploding.done()
        assert beside.ids() == alone.ids()
    assert finished_first > 1
    for answer in exploding.result():
        assert answer.error is not None
        assert answer.error.reason is Reason.GRAMMAR_TOO_LARGE


async def test_spans_and_metrics_tell_of_the_constraint(worker: LocalWorker) -> None:
    for _ in range(2):
        await worker.ask(request("x", types_pb2.Constraint(regex="ab?c")))
    await worker.idle()
    counted = {
        known: worker.metrics.get_sample_value("lepton_grammar_seconds_count", {"known": known})
        for known in ("true", "false")
    }
    assert counted == {"true": 1.0, "false": 1.0}
    attributes = [
        dict(span.attributes or {})
        for span in worker.spans.get_finished_spans()
        if span.name.endswith("/Generate")
    ]
    assert [a["lepton.grammar_known"] for a in attributes] == [False, True]
    assert all(a["lepton.constraint"] == "regex" for a in attributes)


async def test_a_model_without_an_end_token_serves_all_else() -> None:
    loaded = load_tiny(DEMO_MODEL, context_max=1024)
    async with worker_of(loaded.runner, tokenizer=loaded.tokenizer) as worker:
        refused = await worker.ask("x", constraint=types_pb2.Constraint(regex="a"))
        assert isinstance(refused.error, Unsupported)
        assert refused.error.reason is Reason.CONSTRAINT_UNSUPPORTED
        (await worker.ask("x", stop={"max_tokens": 3})).check_whole()
