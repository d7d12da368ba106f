"""Grammars that force calls, followed by a real engine: whatever a model draws, it has made the calls asked for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from common.errors import InvalidRequest, Reason
from gateway.tools.api import (
    ArgumentsDelta,
    CallBegun,
    CallEnded,
    Piece,
    TextDelta,
    ToolChoice,
    ToolMode,
    ToolSpec,
)
from gateway.tools.plan import ToolPlan, plan_tools
from gateway.tools.registry import FORMATS
from lepton.v1 import inference_pb2, types_pb2
from tests.support.grammars import grammar_compiler
from tests.support.processes import DEMO_MODEL
from tests.support.tool_models import with_tools
from tests.support.worker import LocalWorker, table_of, worker_of
from worker.app import facts_of
from worker.runtime.grammar.limits import GrammarLimits
from worker.runtime.model import load_model

ADD = ToolSpec(
    name="add",
    description='Adds "%llguidance" numbers.',
    parameters={
        "type": "object",
        "properties": {
            "a": {"type": "integer", "minimum": 0, "maximum": 99},
            "b": {"$ref": "#/$defs/n"},
        },
        "required": ["a", "b"],
        "additionalProperties": False,
        "$defs": {"n": {"enum": [1, 2, "%llguidance"]}},
    },
    strict=True,
)
NOW = ToolSpec(name="now")
LENIENT = ToolSpec(
    name="find",
    parameters={
        "properties": {"q": {"type": "string", "maxLength": 8, "format": "unheard-of"}},
        "additionalProperties": False,
        "not": {"required": ["x"]},
    },
)
TOOLS = [ADD, NOW, LENIENT]


@pytest.fixture(name="worker")
async def _worker(tmp_path: Path) -> AsyncIterator[LocalWorker]:
    folder = with_tools(DEMO_MODEL, tmp_path / "demo")
    loaded = load_model(folder, name="demo", threads=1, rows_max=4, context_max=1024)
    async with worker_of(
        loaded.runner,
        model=facts_of(loaded),
        tokenizer=loaded.tokenizer,
        grammars=grammar_compiler(table_of(loaded), GrammarLimits()),
    ) as worker:
        yield worker


async def ask(
    worker: LocalWorker, plan: ToolPlan, *, seed: int, temperature: float = 1.0
) -> tuple[list[Piece], bool]:
    """What the answer holds, and whether the model ended it."""
    request = inference_pb2.GenerateRequest(
        chat={"messages": [{"role": types_pb2.ROLE_USER, "content": "What is 1 + 2?"}]},
        sampling={"seed": seed, "temperature": temperature},
        stop={"max_tokens": 300},
    )
    request.chat.tools.extend(plan.shown)
    if plan.constraint is not None:
        request.constraint.CopyFrom(plan.constraint)
    answer = await worker.ask(request)
    answer.check_whole()
    parser = plan.new_parser("seed")
    pieces = [piece for delta in answer.deltas for piece in parser.feed(delta.text)]
    return pieces + parser.finish(), answer.end().reason == types_pb2.FINISH_REASON_STOP


def calls_in(pieces: list[Piece]) -> list[tuple[str, Any]]:
    """Name and arguments of whole calls."""
    names = {piece.index: piece.name for piece in pieces if isinstance(piece, CallBegun)}
    arguments = dict.fromkeys(names, "")
    for piece in pieces:
        if isinstance(piece, ArgumentsDelta):
            arguments[piece.index] += piece.text
    whole = [piece.index for piece in pieces if isinstance(piece, CallEnded) and piece.is_whole]
    return [(names[index], json.loads(arguments[index])) for index in whole]


async def test_a_model_is_asked_with_tools_and_forced_to_call(worker: LocalWorker) -> None:
    """Each format, by a model that has never seen any: all sampling is at temperature 1."""

    async def check(name: str, choice: ToolChoice, seed: int) -> int:
        plan = plan_tools(TOOLS, choice, tool_format=name)
        pieces, has_ended = await ask(worker, plan, seed=seed)
        assert not [piece for piece in pieces if isinstance(piece, TextDelta)]
        assert any(isinstance(piece, CallBegun) for piece in pieces)
        calls = calls_in(pieces)
        for called, arguments in calls:
            assert called == choice.name or not choice.name
            schema = {"add": ADD, "find": LENIENT}.get(called, NOW).parameters or {}
            Draft202012Validator(schema).validate(arguments)
            assert called != "now" or arguments == {}
        if has_ended:
            ended = [piece.is_whole for piece in pieces if isinstance(piece, CallEnded)]
            assert ended
            assert all(ended)
            assert choice.parallel or len(ended) == 1
        return len(calls) if has_ended else 0

    required = ToolChoice(mode=ToolMode.REQUIRED)
    counts = await asyncio.gather(
        *(check(name, required, seed) for name in FORMATS for seed in (1, 2)),
        *(check(name, ToolChoice(mode=ToolMode.REQUIRED, parallel=False), 3) for name in FORMATS),
        *(check(name, ToolChoice(mode=ToolMode.REQUIRED, name="add"), 4) for name in FORMATS),
    )
    assert sum(counts) >= len(counts) / 2


async def test_the_format_is_told_and_registered(worker: LocalWorker) -> None:
    raw = await worker.channel.unary_unary("/lepton.v1.InferenceService/ListModels")(b"")
    (model,) = inference_pb2.ListModelsResponse.FromString(raw).models
    assert model.tool_format == "hermes"
    assert (await worker.registered())["w1"].tool_format == "hermes"


async def test_what_is_not_forced_is_text_or_a_call(worker: LocalWorker) -> None:
    answer = types_pb2.Constraint(json_schema=json.dumps({"enum": ["a", "b"]}))
    one = ToolChoice(parallel=False)
    for seed in (1, 2, 3):
        plan = plan_tools(TOOLS, ToolChoice(), tool_format="hermes", answer=answer)
        pieces, _ = await ask(worker, plan, seed=seed, temperature=2.0)
        said = "".join(piece.text for piece in pieces if isinstance(piece, TextDelta))
        assert said in ({'"a"', '"b"'} if not calls_in(pieces) else {""})
        pieces, _ = await ask(worker, plan_tools(TOOLS, one, tool_format="hermes"), seed=seed)
        assert len(calls_in(pieces)) <= 1


async def test_a_schema_that_cannot_be_enforced_is_refused_when_it_is_strict(
    worker: LocalWorker,
) -> None:
    plan = plan_tools(
        [replace(LENIENT, strict=True)], ToolChoice(mode=ToolMode.REQUIRED), tool_format="hermes"
    )
    assert plan.constraint is not None
    answer = await worker.ask("x", constraint=plan.constraint)
    assert isinstance(answer.error, InvalidRequest)
    assert answer.error.reason is Reason.GRAMMAR_UNSUPPORTED
