"""From a constraint to a grammar: tried out elsewhere, refused with a reason, never at the cost of others."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from common.errors import InvalidRequest, Overloaded, Reason, Unavailable, Unsupported
from tests.support.grammars import (
    BYTES,
    EOS,
    allowed_ids,
    bomb,
    grammar_compiler,
    json_schema,
    lark,
    literals,
    regex,
)
from tests.support.manual_clock import ManualClock
from tests.support.patience import PATIENCE_S
from worker.engine.grammar import Constraint, ConstraintKind
from worker.runtime.grammar.compiler import GrammarCompiler
from worker.runtime.grammar.limits import GrammarLimits
from worker.runtime.grammar.tokens import TokenTable, token_table
from worker.runtime.grammar.trials import _Process
from worker.runtime.vocabulary import Vocabulary

QUICK = GrammarLimits(compile_s_max=0.3)


@asynccontextmanager
async def compiling(
    limits: GrammarLimits | None = None, table: TokenTable | None = BYTES, **options: Any
) -> AsyncIterator[GrammarCompiler]:
    compiler = grammar_compiler(table, limits, **options)
    try:
        yield compiler
    finally:
        await compiler.close()


async def refused(compiler: GrammarCompiler, constraint: Constraint) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        await compiler.compile(constraint)
    return caught.value


async def test_every_kind_compiles_and_the_second_time_it_is_known() -> None:
    async with compiling() as compiler:
        for constraint, first in (
            (json_schema('{"type": "boolean"}'), {"t", "f", " ", "\n", "\r", "\t"}),
            (Constraint(ConstraintKind.JSON_OBJECT), {"{", " ", "\n", "\r", "\t"}),
            (regex("[xy]z"), {"x", "y"}),
            (lark('start: "a" | "b"'), {"a", "b"}),
            (literals("yes", "no"), {"y", "n"}),
        ):
            grammar, was_known = await compiler.compile(constraint)
            assert not was_known
            assert set(map(chr, allowed_ids(grammar.new_matcher()))) <= first
            _, was_known = await compiler.compile(constraint)
            assert was_known


async def test_a_refusal_is_remembered_too() -> None:
    async with compiling() as compiler:
        first = await refused(compiler, regex("("))
        second = await refused(compiler, regex("("))
        assert (first.reason, first.field) == (Reason.GRAMMAR_INVALID, "constraint.regex")
        assert (second.reason, second.message) == (first.reason, first.message)
        assert second is not first


async def test_a_constraint_that_many_bring_at_once_is_tried_once() -> None:
    async with compiling(processes=4) as compiler:
        found = await asyncio.gather(*(compiler.compile(regex("ab")) for _ in range(20)))
        assert len({id(grammar) for grammar, _ in found}) == 20
        assert compiler_starts(compiler) == 1


async def test_who_waits_for_the_trial_of_another_tries_when_the_other_goes_away() -> None:
    async with compiling() as compiler:
        first = asyncio.ensure_future(compiler.compile(regex("ab")))
        second = asyncio.ensure_future(compiler.compile(regex("ab")))
        while not compiler_starts(compiler):
            await asyncio.wait({first}, timeout=0.001)
        first.cancel()
        async with asyncio.timeout(PATIENCE_S):
            await second


async def test_verdicts_are_bounded() -> None:
    async with compiling(verdicts_max=2) as compiler:
        for text in ("a", "b", "a", "c"):
            await compiler.compile(regex(text))
        assert [(await compiler.compile(regex(text)))[1] for text in "acb"] == [True, True, False]


async def test_a_bomb_is_ended_and_others_compile_before_and_after_it() -> None:
    async with compiling(QUICK, processes=2) as compiler:
        await compiler.compile(regex("a"))
        exploding = asyncio.ensure_future(refused(compiler, bomb()))
        while not exploding.done():
            await compiler.compile(literals("beside", str(id(exploding))))
        error = exploding.result()
        assert error.reason is Reason.GRAMMAR_TOO_LARGE
        assert "grammar_compile_s_max" in error.message
        await compiler.compile(regex("after"))


def test_without_a_limit_the_bomb_does_not_end() -> None:
    """The negative control: no limit of llguidance itself ends it, and a thread could not be stopped."""
    code = (
        "from tests.support.grammars import bomb, compiled\n"
        "print('begins', flush=True)\n"
        "compiled(bomb())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
    finally:
        process.kill()
        process.communicate()


async def test_what_the_clock_refused_is_tried_again_a_minute_later() -> None:
    clock = ManualClock()
    async with compiling(QUICK, clock=clock) as compiler:
        await refused(compiler, bomb())
        for later_s, is_tried in ((1, False), (60, True)):
            clock.advance(later_s)
            started = compiler_starts(compiler)
            await refused(compiler, bomb())
            assert (compiler_starts(compiler) > started) == is_tried


def compiler_starts(compiler: GrammarCompiler) -> int:
    return compiler._trials.num_started


async def test_a_grammar_that_needs_too_much_memory_costs_its_process_only() -> None:
    """Doubling terms: the library gives up, or the process does; small ones pass before and after."""
    huge = lark(
        "start: R0\n" + "\n".join(f"R{i}: R{i + 1} R{i + 1}" for i in range(40)) + '\nR40: "a"'
    )
    async with compiling(GrammarLimits(compile_s_max=20, memory_mib_max=16)) as compiler:
        await compiler.compile(regex("a"))
        error = await refused(compiler, huge)
        assert error.reason is Reason.GRAMMAR_TOO_LARGE
        assert "grammar_memory_mib_max" in error.message
        await compiler.compile(regex("b"))


async def test_a_schema_of_a_shape_that_nobody_thought_of_costs_its_request_only() -> None:
    async with compiling() as compiler:
        for text in (
            '{"enum": ["\\ud800"]}',
            '{"type": "number", "minimum": NaN}',
            '{"maximum": 1e999}',
            '{"a":' * 900 + "{}" + "}" * 900,
            '{"type": []}',
            '{"properties": 3}',
        ):
            error = await refused(compiler, json_schema(text))
            assert error.reason in (Reason.GRAMMAR_INVALID, Reason.GRAMMAR_TOO_LARGE), text
        assert compiler_starts(compiler) == 1


async def test_too_many_at_once_are_told_to_come_back() -> None:
    async with compiling(QUICK, waiting_max=0) as compiler:
        exploding = asyncio.ensure_future(refused(compiler, bomb()))
        while not compiler_starts(compiler):
            await asyncio.wait({exploding}, timeout=0.001)
        with pytest.raises(Overloaded) as caught:
            await compiler.compile(regex("a"))
        assert caught.value.reason is Reason.QUEUE_FULL
        assert caught.value.retry_after_s
        await compiler.compile(regex("b"), is_bounded=False)
        await exploding
        await compiler.compile(regex("a"))


async def test_who_goes_away_takes_the_trial_along() -> None:
    async with compiling(GrammarLimits(compile_s_max=60)) as compiler:
        await compiler.compile(regex("a"))
        exploding = asyncio.ensure_future(compiler.compile(bomb()))
        await asyncio.wait({exploding}, timeout=0.05)
        exploding.cancel()
        await asyncio.wait({exploding})
        assert exploding.cancelled()
        async with asyncio.timeout(PATIENCE_S):
            await compiler.compile(regex("b"))


async def test_a_process_that_died_while_nobody_needed_it_is_replaced() -> None:
    async with compiling() as compiler:
        await compiler.compile(regex("a"))
        (idle,) = compiler._trials._idle
        idle._process.kill()
        await idle._process.wait()
        await compiler.compile(regex("b"))
        assert compiler_starts(compiler) == 2


@pytest.mark.parametrize(
    ("patched", "value"),
    [
        ("sys.executable", "/nowhere/python"),
        ("sys.executable", "/bin/false"),
        ("_START_S_MAX", 0.0),
    ],
    ids=["cannot be run", "ends at once", "takes too long"],
)
async def test_a_process_that_does_not_start_is_told_as_such_and_the_next_one_may(
    patched: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine without a moment to spare: nobody's fault, so not INTERNAL, and no verdict on the constraint."""
    async with compiling() as compiler:
        with monkeypatch.context() as patch:
            patch.setattr(f"worker.runtime.grammar.trials.{patched}", value)
            with pytest.raises(Unavailable, match="ask again") as caught:
                await compiler.compile(regex("a"))
        assert caught.value.reason is Reason.PROCESS_FAILED
        _, was_known = await compiler.compile(regex("a"))
        assert not was_known


@pytest.mark.parametrize(
    "new_event_loop",
    [asyncio.new_event_loop, uvloop.new_event_loop],
    ids=["Python's loop", "libuv's"],
)
def test_to_write_to_a_process_that_ended_is_no_bug(
    new_event_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Workers run on libuv's loop, which has an error of its own for it."""

    async def ask() -> None:
        process = await _Process.start()
        await process.kill()
        with pytest.raises((OSError, EOFError)):
            await process.exchange(b"")

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(ask())


def test_the_process_starts_with_little() -> None:
    """Where processors are busy each import counts: with pydantic, protobuf and Jinja it took four times as long."""
    code = "import sys, worker.runtime.grammar.trial; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "llguidance" in loaded
    assert not {"pydantic", "google.protobuf", "jinja2", "grpc", "onnxruntime"} & set(loaded)


async def test_closing_ends_what_runs() -> None:
    async with compiling(GrammarLimits(compile_s_max=60)) as compiler:
        await compiler.compile(regex("a"))
        exploding = asyncio.ensure_future(compiler.compile(bomb()))
        await asyncio.wait({exploding}, timeout=0.05)
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(Unavailable) as caught:
            await exploding
    assert caught.value.reason is Reason.DRAINING


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"table": None}, "no token that ends"),
        ({"processes": 0}, "grammar_processes"),
        (
            {"table": TokenTable(token_bytes=(b"a",), control_ids=(7,), eos_ids=(7,))},
            "tokens of the model",
        ),
    ],
    ids=["no end token", "switched off", "tokens that cannot be used"],
)
async def test_a_worker_that_cannot_follow_constraints_says_so_when_asked(
    options: dict[str, Any], why: str
) -> None:
    async with compiling(**options) as compiler:
        with pytest.raises(Unsupported, match=why) as caught:
            await compiler.compile(regex("a"))
        assert caught.value.reason is Reason.CONSTRAINT_UNSUPPORTED


def test_the_table_covers_all_logits() -> None:
    vocabulary = Vocabulary(
        token_bytes=(b"a", b"b", b"</s>"),
        control={},
        silent_ids=frozenset({2}),
        strip_first_space=False,
    )
    table = token_table(vocabulary, vocab_size=5, eos_ids=frozenset({2, 9}))
    assert table == TokenTable(
        token_bytes=(b"a", b"b", b"</s>", b"", b""), control_ids=(2,), eos_ids=(2,)
    )
    assert token_table(vocabulary, vocab_size=5, eos_ids=frozenset()) is None
    assert EOS in BYTES.eos_ids
