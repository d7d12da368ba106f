"""The endpoints that a request can mean, with what every choice asks for already found.

A choice among a thousand endpoints must not look at a thousand: who is ready for which task, and how much work lies
there, is kept up to date by `router.core.index` with each change of one endpoint. What is here is immutable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, final, overload

from router.core.endpoint import Endpoint

__all__ = ["Candidates", "ReadyEndpoints", "by_revision", "find", "work_of"]


class _Endpoints(Sequence[Endpoint]):
    """A tuple of endpoints that can carry more."""

    __slots__ = ("_items",)

    def __init__(self, items: Iterable[Endpoint]) -> None:
        self._items = tuple(items)

    @overload
    def __getitem__(self, index: int) -> Endpoint: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Endpoint]: ...
    def __getitem__(self, index: int | slice) -> Endpoint | Sequence[Endpoint]:
        return self._items[index]

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Endpoints) and self._items == other._items

    def __hash__(self) -> int:
        return hash(self._items)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(e.id for e in self._items)})"


@final
class ReadyEndpoints(_Endpoints):
    """Those of one model that are ready for one task, in no particular order."""

    __slots__ = ("positions", "rows", "sequences")

    def __init__(
        self,
        items: Iterable[Endpoint] = (),
        positions: Mapping[str, int] | None = None,
        *,
        sequences: int = 0,
        rows: int = 0,
    ) -> None:
        super().__init__(items)
        self.positions: Mapping[str, int] = positions if positions is not None else {}
        """Endpoint id → index. The same object for as long as the same endpoints are ready."""
        self.sequences = sequences
        """Sum of `work_of` over them."""
        self.rows = rows
        """Sum of their batch rows."""


NOBODY: Final = ReadyEndpoints()


@final
class Candidates(_Endpoints):
    """Every endpoint of a model, or of one revision of it, in every state, in order of arrival."""

    __slots__ = ("_ready", "_revisions")

    def __init__(
        self,
        items: Iterable[Endpoint],
        ready: Mapping[str, ReadyEndpoints],
        revisions: Mapping[str, Candidates] | None = None,
    ) -> None:
        """`revisions` is empty while there is one only."""
        super().__init__(items)
        self._ready = ready
        self._revisions = revisions

    def ready_for(self, task: str) -> ReadyEndpoints:
        """Those that take requests of that task now."""
        return self._ready.get(task, NOBODY)

    @property
    def revisions(self) -> Mapping[str, Candidates]:
        """The same by model revision."""
        if self._revisions:
            return self._revisions
        return {self._items[0].revision: self} if self._items else {}


def work_of(endpoint: Endpoint) -> int:
    """Sequences there: running, waiting, and sent since the last report."""
    load = endpoint.load
    return load.running + load.waiting + endpoint.unreported


def find(endpoints: Sequence[Endpoint], endpoint_id: str) -> Endpoint | None:
    """The one with that id, if it is among them."""
    if isinstance(endpoints, ReadyEndpoints):
        position = endpoints.positions.get(endpoint_id)
        return None if position is None else endpoints[position]
    return next((endpoint for endpoint in endpoints if endpoint.id == endpoint_id), None)


def by_revision(endpoints: Sequence[Endpoint]) -> Mapping[str, Sequence[Endpoint]]:
    """The same by model revision."""
    if isinstance(endpoints, Candidates):
        return endpoints.revisions
    found: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        found.setdefault(endpoint.revision, []).append(endpoint)
    return found
