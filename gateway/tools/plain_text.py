"""An answer that holds no calls."""

from __future__ import annotations

from typing import final

from gateway.tools.api import Piece, TextDelta

__all__ = ["PlainText"]


@final
class PlainText:
    """Implements `gateway.tools.api.OutputParser`."""

    num_calls = 0

    def feed(self, text: str) -> list[Piece]:
        return [TextDelta(text)] if text else []

    def finish(self) -> list[Piece]:
        return []
