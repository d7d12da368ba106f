"""What a conversion is doing, told to whoever shows it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final, Protocol

__all__ = ["SILENT", "Progress"]


class Progress(Protocol):
    """Stages come one after the other, never nested."""

    def stage(self, what: str) -> contextlib.AbstractContextManager[None]:
        """Entered when `what` begins; left when it is done, or with the exception that ended it."""
        ...


class _Silent:
    @contextlib.contextmanager
    def stage(self, what: str) -> Iterator[None]:
        yield


SILENT: Final[Progress] = _Silent()
"""Shows nothing."""
