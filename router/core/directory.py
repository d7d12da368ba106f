"""The entries of the pool by id and by model, and the snapshot made of them."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Final, final

from router.core.entry import Entry
from router.core.index import EndpointIndex
from router.core.snapshot import PoolSnapshot

__all__ = ["Directory"]

_REMEMBERED_MODELS_MAX: Final = 1024


@final
class Directory:
    """Owned by the pool. Whoever changes an entry calls `touch`."""

    def __init__(self, *, remember_s: float, slow_start_s: float) -> None:
        self._remember_s = remember_s
        self._slow_start_s = slow_start_s
        self._entries: dict[str, Entry] = {}
        self.models: dict[str, dict[str, Entry]] = {}
        """Model → id → entry; none of them empty. Read only."""
        self._since: dict[str, float] = {}
        self._gone: dict[str, float] = {}
        """Models without entries, and since when."""
        self._index = EndpointIndex()
        self._cached: PoolSnapshot | None = None

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __contains__(self, entry: object) -> bool:
        return isinstance(entry, Entry) and self._entries.get(entry.about.id) is entry

    def get(self, endpoint_id: str) -> Entry | None:
        """The entry with that id."""
        return self._entries.get(endpoint_id)

    def add(self, entry: Entry, now: float) -> None:
        """Its id must be free."""
        if entry.about.model not in self.models:
            self._since[entry.about.model] = now
        self._entries[entry.about.id] = entry
        self.models.setdefault(entry.about.model, {})[entry.about.id] = entry
        self.touch(entry)

    def remove(self, entry: Entry, now: float) -> bool:
        """Takes it out; returns whether it was the last one of its model, which is remembered for a while."""
        model = entry.about.model
        del self._entries[entry.about.id]
        del self.models[model][entry.about.id]
        self._index.remove(entry.about)
        self._cached = None
        if self.models[model]:
            return False
        del self.models[model], self._since[model]
        if len(self._gone) < _REMEMBERED_MODELS_MAX:
            self._gone[model] = now
        return True

    def touch(self, entry: Entry) -> None:
        """Its picture is out of date."""
        entry.forget_picture()
        if entry in self:
            self._index.put(entry.endpoint(self._slow_start_s))
            self._cached = None

    def snapshot(self, stale_since: float | None) -> PoolSnapshot:
        """Immutable; the same object until something changes."""
        if self._cached is None or self._cached.stale_since != stale_since:
            self._cached = PoolSnapshot(
                models=MappingProxyType(self._index.freeze()), stale_since=stale_since
            )
        return self._cached

    def since(self, model: str) -> float:
        """When the first of the entries came that a served model has had without a break."""
        return self._since[model]

    def remembers(self, model: str, now: float) -> bool:
        """Whether `model` is served, or was within the last `remember_s` seconds."""
        if model in self.models:
            return True
        gone_at = self._gone.get(model)
        return gone_at is not None and now - gone_at < self._remember_s

    def forget_old(self, now: float) -> None:
        """Forgets models that are gone for too long."""
        self._gone = {model: at for model, at in self._gone.items() if now - at < self._remember_s}

    def check_integrity(self) -> None:
        """Raises `AssertionError` when it contradicts itself."""
        indexed = {e.about.id: e for entries in self.models.values() for e in entries.values()}
        _must(indexed == self._entries, "index and entries differ")
        _must(all(self.models.values()), "a model without endpoints is indexed")
        for endpoint_id, entry in self._entries.items():
            _must(entry.about.id == endpoint_id, "an entry lies under another id")
        fresh = EndpointIndex()
        for entry in (e for entries in self.models.values() for e in entries.values()):
            entry.forget_picture()
            fresh.put(entry.endpoint(self._slow_start_s))
        _must(self._index.freeze() == fresh.freeze(), "the index was out of date")
        if self._cached is not None:
            _must(self._cached.models == fresh.freeze(), "the cached snapshot was out of date")


def _must(holds: bool, message: str) -> None:  # noqa: FBT001 - an assertion
    if not holds:
        raise AssertionError(message)
