"""How far an engine's logits are from those of the unquantised model, and who may therefore be compared with whom.

The error is the root mean square of the difference over the standard deviation of the reference: 0 is the same, 1.4 has
nothing to do with it. It says what a row of the table gave up for its speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["SIMILAR", "Reference", "compete_with", "logit_error"]

SIMILAR: Final = 2.0
"""Two rows compete when neither error is more than that many times the other."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Prompts, and the logits [prompts, vocab] of the unquantised model after them (`loadtest.peers.reference`)."""

    prompts: list[list[int]]
    logits: npt.NDArray[np.float32]

    @classmethod
    def read(cls, file: Path) -> Reference:
        """Raises OSError, KeyError or ValueError when `file` is not what that script writes."""
        with np.load(file) as found:
            return cls(found["prompts"].tolist(), found["logits"])


def logit_error(logits: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]) -> float:
    """Both [prompts, vocab]; the reference may have fewer columns, what pads a vocabulary is left out."""
    wide = reference.astype(np.float64)
    difference = logits[:, : wide.shape[1]].astype(np.float64) - wide
    return float(np.sqrt(np.mean(difference**2)) / wide.std())


def compete_with(
    label: str, others: Sequence[str], errors: dict[str, float | None]
) -> tuple[str, ...]:
    """Those of `others` whose error is similar to `label`'s; all of them when nothing was measured."""
    mine = errors.get(label)
    if mine is None:
        return tuple(others) if not any(errors.values()) else ()
    return tuple(
        other
        for other in others
        if (theirs := errors.get(other)) is not None
        and max(mine, theirs) <= SIMILAR * min(mine, theirs)
    )
