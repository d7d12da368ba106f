"""How a process ended, in words that people understand."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Final

__all__ = ["REFUSED", "Exit"]

REFUSED: Final = 2
"""Exit code of a process that will not start as it was asked to (a setting, a model, a port). Trying again as it
is cannot help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """The end of one process."""

    code: int
    """Exit code; negative: minus the signal that killed it."""
    last_lines: tuple[str, ...] = ()
    """What it wrote last, oldest first."""

    @property
    def refused(self) -> bool:
        """Whether it said that it cannot start like this."""
        return self.code == REFUSED

    def describe(self) -> str:
        """For example "killed by SIGKILL" or "ended with code 1"."""
        if self.code >= 0:
            return f"ended with code {self.code}"
        try:
            return f"killed by {signal.Signals(-self.code).name}"
        except ValueError:
            return f"killed by signal {-self.code}"

    def told(self) -> str | None:
        """The process's own `error: …` line without that word; None when it left none."""
        for line in reversed(self.last_lines):
            if line.startswith("error: "):
                return line.removeprefix("error: ").strip()
        return None

    def why(self) -> str:
        """`told`, else `describe` with the last thing it wrote that is no log line (an exception, say)."""
        if (told := self.told()) is not None:
            return told
        last = next((line for line in reversed(self.last_lines) if line.strip()), "")
        if self.code <= 0 or not last or last.startswith(("{", " ")):
            return self.describe()
        return f"{self.describe()}: {last}"
