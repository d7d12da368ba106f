"""What a registry holds, folded from full lists and single changes. No I/O, no time.

Every change carries the revision of the registry at which it happened. Changes older than what is known are dropped,
so that repeated, reordered and late ones do no harm; a full list replaces everything, whatever its revision.
"""

from __future__ import annotations

from collections.abc import Mapping

from common.discovery.api import Instance, Snapshot
from common.discovery.codec import BadValue, decode

__all__ = ["Picture"]


class Picture:
    """Worker id → value, the instances and problems read from the values, and the revision of all that."""

    def __init__(self) -> None:
        self.revision = 0
        """Newest revision seen; 0 before the first list."""
        self._values: dict[str, bytes] = {}
        self._instances: dict[str, Instance] = {}
        self._problems: dict[str, str] = {}

    def __repr__(self) -> str:
        return (
            f"Picture(revision={self.revision}, {len(self._instances)} instances, "
            f"{len(self._problems)} problems)"
        )

    def replace(self, values: Mapping[str, bytes], *, revision: int) -> bool:
        """Takes a full list (id → value); returns whether anything differs. Equal values are not read again."""
        self.revision = revision
        gone = [name for name in self._values if name not in values]
        for name in gone:
            self._forget(name)
        changed = [self._learn(name, value) for name, value in values.items()]
        return bool(gone) or any(changed)

    def put(self, name: str, value: bytes, *, revision: int) -> bool:
        """One written value; returns whether anything differs."""
        return self._advance(revision) and self._learn(name, value)

    def delete(self, name: str, *, revision: int) -> bool:
        """One removed value; returns whether anything differs."""
        return self._advance(revision) and self._forget(name)

    def restore(self, snapshot: Snapshot) -> None:
        """Takes what a kept snapshot says, as if listed at revision 0."""
        self._instances = dict(snapshot.instances)
        self._problems = dict(snapshot.problems)
        # No bytes are known: the first list reads every value.
        self._values = dict.fromkeys({*self._instances, *self._problems}, b"")

    def snapshot(self, *, stale: bool = False) -> Snapshot:
        """A copy that no later change touches."""
        return Snapshot(instances=dict(self._instances), stale=stale, problems=dict(self._problems))

    def _advance(self, revision: int) -> bool:
        if revision < self.revision:
            return False
        self.revision = revision
        return True

    def _learn(self, name: str, value: bytes) -> bool:
        if self._values.get(name) == value:
            return False
        before = (self._instances.pop(name, None), self._problems.pop(name, None))
        self._values[name] = value
        try:
            instance = decode(value)
            if instance.id != name:
                raise BadValue("id differs from the key")
        except BadValue as problem:
            self._problems[name] = str(problem)
        else:
            self._instances[name] = instance
        return before != (self._instances.get(name), self._problems.get(name))

    def _forget(self, name: str) -> bool:
        if name not in self._values:
            return False
        del self._values[name]
        self._instances.pop(name, None)
        self._problems.pop(name, None)
        return True
