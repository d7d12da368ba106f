"""A servicer context that adds initial metadata to whatever the handler sends, once, and before anything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, final

import grpc

__all__ = ["InitialMetadataContext"]


@final
class InitialMetadataContext:
    """Behaves like the context it wraps.

    gRPC sends initial metadata at most once, so an interceptor that sent its own would take the handler's chance. This
    one waits: `extra` goes out with the handler's initial metadata, or before the first message, the response or
    the abort, whichever comes first (the owner calls `finish` before the response of a unary call).
    """

    def __init__(self, context: Any, extra: Sequence[tuple[str, str]]) -> None:
        self._context = context
        self._extra = tuple(extra)
        self._sent = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Sends the handler's metadata and ours; a second call raises, as gRPC's own does."""
        self._step_aside()
        await self._context.send_initial_metadata((*self._extra, *initial_metadata))

    async def write(self, message: Any) -> None:
        await self.finish()
        await self._context.write(message)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()
    ) -> NoReturn:
        await self.finish()
        await self._context.abort(code, details, trailing_metadata)
        raise AssertionError("abort returns by raising")

    async def finish(self) -> None:
        """Sends `extra` if nothing was sent yet."""
        if not self._sent:
            self._step_aside()
            await self._context.send_initial_metadata(self._extra)

    def _step_aside(self) -> None:
        """From now on nothing of ours stands between a handler and its messages."""
        self._sent = True
        self.write = self._context.write  # type: ignore[method-assign]
