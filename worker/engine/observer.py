"""Who watches the steps, for metrics."""

from __future__ import annotations

from typing import Protocol

__all__ = ["StepObserver"]


class StepObserver(Protocol):
    """Called on the engine thread, so it must return at once; what it raises is logged and changes nothing."""

    def on_step(self, *, duration_s: float, num_prefill_tokens: int, num_decode_rows: int) -> None:
        """After each run of the model, failed ones too: its length, prompt tokens and decoding sequences."""
        ...

    def on_drafts(self, *, num_drafted: int, num_accepted: int) -> None:
        """After each run that verified drafts: their tokens, and how many of those stand."""
        ...

    def on_preemption(self) -> None:
        """A sequence gave up its row for one of a higher priority."""
        ...
