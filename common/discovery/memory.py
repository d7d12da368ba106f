"""A registry inside one process: for tests, and for a worker that nobody has to find.

It keeps the whole contract, values as bytes included, and the faults of the real ones can be played: `expire`,
`corrupt`, `go_away` and `come_back`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from common.discovery.api import Instance, Snapshot
from common.discovery.board import Board
from common.discovery.codec import check_id, encode
from common.discovery.picture import Picture
from common.errors import Conflict, Reason

__all__ = ["MemoryRegistry"]


class MemoryRegistry:
    """Registrar and Watcher at once. All calls on one event loop; nothing runs in the background."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self._holders: dict[str, _MemoryRegistration] = {}
        self._away = False
        self._boards: list[tuple[Board, Picture]] = []

    async def register(self, instance: Instance) -> _MemoryRegistration:
        """See `Registrar.register`."""
        encode(instance)
        holder = self._holders.get(check_id(instance.id))
        if holder is not None and holder.instance.incarnation != instance.incarnation:
            raise Conflict(
                f"worker id {instance.id} is taken by a live worker at {holder.instance.address}; "
                "give this one another id or stop that one",
                reason=Reason.WORKER_ID_TAKEN,
            )
        registration = _MemoryRegistration(self, instance)
        self._holders[instance.id] = registration
        self.write(registration)
        return registration

    async def snapshots(self) -> AsyncGenerator[Snapshot]:
        """See `Watcher.snapshots`."""
        picture = Picture()
        board = Board(lambda: picture.snapshot(stale=self._away))
        entry = (board, picture)
        self._boards.append(entry)
        try:
            if not self._away:
                picture.replace(self._values, revision=1)
                board.changed()
            async for snapshot in board.snapshots():
                yield snapshot
        finally:
            self._boards.remove(entry)

    def expire(self, worker_id: str) -> None:
        """The worker died without a word."""
        self._holders.pop(worker_id, None)
        self._values.pop(worker_id, None)
        self._publish()

    def corrupt(self, worker_id: str, value: bytes) -> None:
        """Someone wrote a value that is no worker."""
        self._values[worker_id] = value
        self._publish()

    def go_away(self) -> None:
        """The registry cannot be reached: watchers keep what they have, writes wait."""
        self._away = True
        for board, _ in self._boards:
            board.changed()

    def come_back(self) -> None:
        """The registry can be reached again and hears what was announced meanwhile."""
        self._away = False
        for registration in self._holders.values():
            self._values[registration.instance.id] = encode(registration.instance)
        self._publish(always=True)

    def write(self, registration: _MemoryRegistration) -> None:
        """Stores a registration's value, if it still holds its id."""
        instance = registration.instance
        if self._away or self._holders.get(instance.id) is not registration:
            return
        self._values[instance.id] = encode(instance)
        self._publish()

    def remove(self, registration: _MemoryRegistration) -> None:
        """Removes a registration and its value, if it still holds its id."""
        worker_id = registration.instance.id
        if self._holders.get(worker_id) is registration:
            self.expire(worker_id)

    def holds(self, registration: _MemoryRegistration) -> bool:
        """Whether the id belongs to this registration and its value is stored."""
        worker_id = registration.instance.id
        return self._holders.get(worker_id) is registration and worker_id in self._values

    def _publish(self, *, always: bool = False) -> None:
        if self._away:
            return
        for board, picture in self._boards:
            if picture.replace(self._values, revision=1) or always:
                board.changed()


class _MemoryRegistration:
    """See `Registration`."""

    def __init__(self, registry: MemoryRegistry, instance: Instance) -> None:
        self._registry = registry
        self.instance = instance

    @property
    def announced(self) -> bool:
        """See `Registration.announced`."""
        return self._registry.holds(self)

    async def update(self, instance: Instance) -> None:
        """See `Registration.update`."""
        encode(instance)
        self.instance = instance
        self._registry.write(self)

    async def close(self) -> None:
        """See `Registration.close`."""
        self._registry.remove(self)
