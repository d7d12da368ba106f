"""A worker's entry in the registry: written when it is ready, marked before it leaves."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import Self, final

from common.discovery.api import Instance, InstanceState, Registrar, Registration
from common.logs import get_logger

__all__ = ["Announcement"]

log = get_logger(__name__)


@final
class Announcement:
    """Holds the entry while its block runs.

    Enter it only when the model is loaded, warm, and has given its golden answer. Errors: `Conflict(WORKER_ID_TAKEN)`
    on entering; a registry that is away is none. Cancellation: leaving removes the entry, best effort.
    """

    def __init__(self, registrar: Registrar, instance: Instance) -> None:
        self._registrar = registrar
        self._instance = instance
        self._registration: Registration | None = None

    async def __aenter__(self) -> Self:
        self._registration = await self._registrar.register(self._instance)
        log.info(
            "worker.registered",
            worker_id=self._instance.id,
            model=self._instance.model,
            revision=self._instance.revision,
            announced=self._registration.announced,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        registration, self._registration = self._registration, None
        if registration is not None:
            await registration.close()

    async def drain(self) -> None:
        """Tells routers to send nothing more."""
        if self._registration is not None:
            await self._registration.update(replace(self._instance, state=InstanceState.DRAINING))
