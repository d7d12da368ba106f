"""Compilers and tokens for tests of constraints."""

from __future__ import annotations

from common.clock import Clock, SystemClock
from worker.engine.grammar import Constraint, ConstraintKind
from worker.runtime.grammar.compiler import GrammarCompiler
from worker.runtime.grammar.limits import GrammarLimits
from worker.runtime.grammar.tokens import TokenTable

__all__ = ["BYTES", "EOS", "grammar_compiler", "json_schema", "lark", "literals", "regex"]

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
    waiting_max: int = 8,
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
