"""What is asked of the upstream that measures, and what it answers with."""

from __future__ import annotations

from typing import Final

__all__ = ["FLOOD", "HOLD", "MARK", "MODEL", "STEPS", "WORD"]

MODEL: Final = "bench"
MARK: Final = "lepton-bench: "
"""Every prompt begins with it."""
FLOOD: Final = MARK + "flood"
STEPS: Final = MARK + "steps"
HOLD: Final = MARK + "hold"
WORD: Final = b" measure"
"""The text of each token. No door writes it differently, so tokens can be counted without reading anything."""
