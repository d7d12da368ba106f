"""What tests of admission have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from common.errors import LeptonError
from router.core.call import RoutingView
from router.core.route import Route

__all__ = ["Unwatched"]


class Unwatched:
    """An `AdmissionObserver` that looks away."""

    @contextmanager
    def queueing(self, route: Route, predicted_s: float | None) -> Iterator[None]:
        yield

    def admitted(self, route: Route, view: RoutingView) -> None: ...

    def refused(self, error: LeptonError) -> None: ...
