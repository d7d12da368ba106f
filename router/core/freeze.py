"""Many in trouble at once: more likely ours, or the registry's, than theirs. Then better do nothing for a while."""

from __future__ import annotations

from typing import Final, final

__all__ = ["Freeze"]

_TROUBLED_MIN: Final = 2


@final
class Freeze:
    """Per model: frozen while more than half of its workers, and at least two, are in trouble; `seconds_max` at most.

    A freeze that has run out does not begin again before fewer are in trouble.
    """

    def __init__(self, *, seconds_max: float) -> None:
        self._seconds_max = seconds_max
        self._since: dict[str, float] = {}
        self.frozen: set[str] = set()
        """As judged last."""

    def judge(self, model: str, *, num_troubled: int, num_all: int, now: float) -> bool:
        """Whether the model is frozen from now on."""
        if num_troubled < _TROUBLED_MIN or 2 * num_troubled <= num_all:
            self.forget(model)
            return False
        if now - self._since.setdefault(model, now) < self._seconds_max:
            self.frozen.add(model)
        else:
            self.frozen.discard(model)
        return model in self.frozen

    def forget(self, model: str) -> None:
        """The trouble is over, or the model has no workers any more."""
        self._since.pop(model, None)
        self.frozen.discard(model)
