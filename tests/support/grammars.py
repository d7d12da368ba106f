"""Compilers and tokens for tests of constraints."""

from __future__ import annotations

from functools import cache

import numpy as np
from llguidance import LLTokenizer

from common.clock import Clock, SystemClock
from worker.engine.grammar import Constraint, ConstraintKind, Matcher
from worker.runtime.grammar.compiled import compile_constraint
from worker.runtime.grammar.compiler import GrammarCompiler
from worker.runtime.grammar.limits import GrammarLimits
from worker.runtime.grammar.masks import MaskThread
from worker.runtime.grammar.matcher import LlGrammar
from worker.runtime.grammar.tokens import TokenTable, open_tokens

__all__ = [
    "BYTES",
    "EOS",
    "allowed_ids",
    "bomb",
    "compiled",
    "grammar_compiler",
    "json_schema",
    "lark",
    "literals",
    "regex",
]

EOS = 256

BYTES = TokenTable(
    token_bytes=(*(bytes([byte]) for byte in range(256)), b"<|end|>", b"<tool>", b"", b"abc"),
    control_ids=(256, 257),
    eos_ids=(EOS,),
)
"""A token per byte, the end, a control token, an id without a token, and one longer token."""


def grammar_compiler(
    table: TokenTable | None,
    limits: GrammarLimits | None = None,
    *,
    processes: int = 1,
    waiting_max: int = 32,
    verdicts_max: int = 16,
    clock: Clock | None = None,
) -> GrammarCompiler:
    return GrammarCompiler(
        table,
        limits or GrammarLimits(),
        processes=processes,
        waiting_max=waiting_max,
        verdicts_max=verdicts_max,
        clock=clock or SystemClock(),
    )


def json_schema(text: str) -> Constraint:
    return Constraint(ConstraintKind.JSON_SCHEMA, (text,))


def regex(text: str) -> Constraint:
    return Constraint(ConstraintKind.REGEX, (text,))


def lark(text: str) -> Constraint:
    return Constraint(ConstraintKind.LARK, (text,))


def literals(*texts: str) -> Constraint:
    return Constraint(ConstraintKind.LITERALS, texts)


_MASKS = MaskThread()


@cache
def _opened(table: TokenTable) -> LLTokenizer:
    return open_tokens(table)


def compiled(
    constraint: Constraint, table: TokenTable = BYTES, limits: GrammarLimits | None = None
) -> LlGrammar:
    """Compiled in this process, without a trial: for grammars that do no harm."""
    start, mask = compile_constraint(_opened(table), constraint, limits or GrammarLimits())
    return LlGrammar(
        start, mask, field=constraint.field, vocab_size=len(table.token_bytes), masks=_MASKS
    )


def allowed_ids(matcher: Matcher) -> set[int]:
    return set(np.flatnonzero(matcher.allowed()).tolist())


def bomb() -> Constraint:
    """Intersections of expressions, which no limit of llguidance bounds: compiling them takes for ever."""
    parts = (f"/(.*[ab]){{{count}}}.*/" for count in range(2, 30))
    return lark(f"start: A\nA: {' & '.join(parts)}")
