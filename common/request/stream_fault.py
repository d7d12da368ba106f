"""How a worker breaks the rules of a stream."""

from __future__ import annotations

__all__ = ["StreamFault"]


class StreamFault(Exception):
    """A worker broke the rules of a stream."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        """One word for metrics: "repeated", "gap", "late", or "unreadable"; a call has a further one, "silent"."""
