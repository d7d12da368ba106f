"""What one grammar may cost."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GrammarLimits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GrammarLimits:
    """Bounds on a trial, on the compiled form, and on every mask; the settings `worker.grammar_*` say them."""

    compile_s_max: float = 2.0
    """Longest trial; then its process is gone."""
    memory_mib_max: int = 256
    """Most memory that a trial may take."""
    symbols_max: int = 100_000
    """Size of the grammar: symbols in all its rules."""
    states_max: int = 20_000
    """States of the lexer, which grows as it is used, half a kilobyte to two each."""
    mask_fuel_max: int = 200_000
    """Work of the lexer for one mask, about 14,000 a millisecond."""
    mask_items_max: int = 50_000
    """Work of the parser for one mask, about 20,000 a millisecond."""
