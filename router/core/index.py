"""Endpoints by model, revision, and readiness for a task, kept up to date one endpoint at a time.

The cost of a change does not grow with the cluster; freezing copies some tuples, which takes about a microsecond per
thousand endpoints.
"""

from __future__ import annotations

from typing import final

from router.core.candidates import Candidates, ReadyEndpoints, work_of
from router.core.endpoint import Endpoint, EndpointState

__all__ = ["EndpointIndex"]


@final
class EndpointIndex:
    """The mutable side of `Candidates`; owned by the pool."""

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}
        self._frozen: dict[str, Candidates] | None = None

    def put(self, endpoint: Endpoint) -> None:
        """Takes a new picture of an endpoint, known or not. A known one has the model that it had."""
        model = self._models.get(endpoint.model)
        if model is None:
            model = self._models[endpoint.model] = _Model()
        model.put(endpoint)
        self._frozen = None

    def remove(self, endpoint: Endpoint) -> None:
        """Forgets an endpoint that was put, by its model and id."""
        model = self._models[endpoint.model]
        model.remove(endpoint.id)
        if not model.everyone.by_id:
            del self._models[endpoint.model]
        self._frozen = None

    def freeze(self) -> dict[str, Candidates]:
        """By model name. What has not changed is the same object as before."""
        if self._frozen is None:
            self._frozen = {name: model.freeze() for name, model in self._models.items()}
        return self._frozen


class _Model:
    """All of a model, and once more by revision while there are several."""

    __slots__ = ("_frozen", "_revisions", "everyone")

    def __init__(self) -> None:
        self.everyone = _Group()
        self._revisions: dict[str, _Group] = {}
        self._frozen: Candidates | None = None

    def put(self, endpoint: Endpoint) -> None:
        before = self.everyone.by_id.get(endpoint.id)
        if before is not None and before.revision != endpoint.revision:
            self.remove(endpoint.id)
        if not self._revisions and endpoint.revision != self._only_revision():
            self._split()
        if self._revisions:
            self._revisions.setdefault(endpoint.revision, _Group()).put(endpoint)
        self.everyone.put(endpoint)
        self._frozen = None

    def remove(self, endpoint_id: str) -> None:
        revision = self.everyone.by_id[endpoint_id].revision
        self.everyone.remove(endpoint_id)
        self._frozen = None
        if group := self._revisions.get(revision):
            group.remove(endpoint_id)
            if not group.by_id:
                del self._revisions[revision]
            if len(self._revisions) == 1:
                self._revisions.clear()

    def freeze(self) -> Candidates:
        if self._frozen is None:
            revisions = {name: group.freeze() for name, group in self._revisions.items()}
            self._frozen = self.everyone.freeze(revisions)
        return self._frozen

    def _only_revision(self) -> str | None:
        return next((endpoint.revision for endpoint in self.everyone.by_id.values()), None)

    def _split(self) -> None:
        for endpoint in self.everyone.by_id.values():
            self._revisions.setdefault(endpoint.revision, _Group()).put(endpoint)


class _Group:
    """Endpoints in order of arrival, and who of them is ready for what."""

    __slots__ = ("by_id", "ready")

    def __init__(self) -> None:
        self.by_id: dict[str, Endpoint] = {}
        self.ready: dict[str, _Ready] = {}

    def put(self, endpoint: Endpoint) -> None:
        before = self.by_id.get(endpoint.id)
        self.by_id[endpoint.id] = endpoint
        tasks = _ready_tasks(endpoint)
        if before is not None and (gone := _ready_tasks(before)) != tasks:
            for task in gone - tasks:
                self._drop(task, endpoint.id)
        for task in tasks:
            slots = self.ready.get(task)
            if slots is None:
                slots = self.ready[task] = _Ready()
            slots.put(endpoint)

    def remove(self, endpoint_id: str) -> None:
        for task in _ready_tasks(self.by_id.pop(endpoint_id)):
            self._drop(task, endpoint_id)

    def freeze(self, revisions: dict[str, Candidates] | None = None) -> Candidates:
        ready = {task: slots.freeze() for task, slots in self.ready.items()}
        return Candidates(self.by_id.values(), ready, revisions)

    def _drop(self, task: str, endpoint_id: str) -> None:
        slots = self.ready[task]
        slots.remove(endpoint_id)
        if not slots.items:
            del self.ready[task]


class _Ready:
    """A dense list with positions, so that one can be drawn at random; the last takes the place of one that leaves."""

    __slots__ = ("_is_shared", "items", "positions", "rows", "sequences")

    def __init__(self) -> None:
        self.items: list[Endpoint] = []
        self.positions: dict[str, int] = {}
        self.sequences = 0
        self.rows = 0
        self._is_shared = False

    def put(self, endpoint: Endpoint) -> None:
        position = self.positions.get(endpoint.id)
        if position is None:
            self._own_positions()[endpoint.id] = len(self.items)
            self.items.append(endpoint)
        else:
            self._weigh(self.items[position], -1)
            self.items[position] = endpoint
        self._weigh(endpoint, 1)

    def remove(self, endpoint_id: str) -> None:
        positions = self._own_positions()
        position = positions.pop(endpoint_id)
        self._weigh(self.items[position], -1)
        last = self.items.pop()
        if last.id != endpoint_id:
            self.items[position] = last
            positions[last.id] = position

    def freeze(self) -> ReadyEndpoints:
        self._is_shared = True
        return ReadyEndpoints(self.items, self.positions, sequences=self.sequences, rows=self.rows)

    def _own_positions(self) -> dict[str, int]:
        """Copied before a change when a frozen one holds them."""
        if self._is_shared:
            self.positions = dict(self.positions)
            self._is_shared = False
        return self.positions

    def _weigh(self, endpoint: Endpoint, sign: int) -> None:
        self.sequences += sign * work_of(endpoint)
        self.rows += sign * max(1, endpoint.load.rows_max)


def _ready_tasks(endpoint: Endpoint) -> frozenset[str]:
    return frozenset(endpoint.tasks) if endpoint.state is EndpointState.READY else frozenset()
