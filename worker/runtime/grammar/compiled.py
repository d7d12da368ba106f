"""llguidance, called: a constraint → a matcher at its start and the first mask."""

from __future__ import annotations

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from worker.engine.grammar import Constraint, ConstraintKind
from worker.runtime.grammar.limits import GrammarLimits
from worker.runtime.grammar.refusal import invalid, refusal_of
from worker.runtime.grammar.source import lark_of

__all__ = ["compile_constraint"]


def compile_constraint(
    tokens: LLTokenizer, constraint: Constraint, limits: GrammarLimits
) -> tuple[LLMatcher, bytes]:
    """The matcher before any token, and which tokens may come first: a bit per id, lowest first.

    Lets go of the GIL. Raises `Refusal`. For some grammars it takes all time and memory there is, whatever the limits
    (intersections of expressions): call it where that does no harm, or for what has passed a trial.
    """
    matcher = LLMatcher(
        tokens,
        lark_of(constraint),
        log_level=0,
        limits=LLParserLimits(
            max_grammar_size=limits.symbols_max,
            max_lexer_states=limits.states_max,
            step_lexer_fuel=limits.mask_fuel_max,
            step_max_items=limits.mask_items_max,
            precompute_large_lexemes=False,
            verbose_errors=False,
        ),
    )
    keeps_lines = constraint.kind is ConstraintKind.LARK
    if matcher.is_error():
        raise refusal_of(matcher.get_error(), keeps_lines=keeps_lines)
    mask = matcher.compute_bitmask()
    if matcher.is_error():
        raise refusal_of(matcher.get_error(), keeps_lines=keeps_lines)
    if not any(mask):
        raise invalid("no text follows it")
    return matcher, mask
