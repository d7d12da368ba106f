"""Who is out of the question, each in three lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from router.core.call import RoutingView
from router.core.endpoint import Endpoint, EndpointState
from router.core.policy.api import Tried

__all__ = ["NotTried", "Ready", "ServesTask"]


@final
class Ready:
    """Only endpoints whose load stream speaks and which do not drain."""

    name = "not_ready"

    def keep(
        self, view: RoutingView, endpoints: Sequence[Endpoint], tried: Tried
    ) -> Sequence[Endpoint]:
        return [e for e in endpoints if e.state is EndpointState.READY]


@final
class ServesTask:
    """Only endpoints that do the task of the request; "" is any."""

    name = "other_task"

    def keep(
        self, view: RoutingView, endpoints: Sequence[Endpoint], tried: Tried
    ) -> Sequence[Endpoint]:
        task = view.task
        return [e for e in endpoints if task in e.tasks] if task else endpoints


@final
class NotTried:
    """Not where this call has already failed; a restarted worker counts as new."""

    name = "already_tried"

    def keep(
        self, view: RoutingView, endpoints: Sequence[Endpoint], tried: Tried
    ) -> Sequence[Endpoint]:
        return [e for e in endpoints if (e.id, e.incarnation) not in tried] if tried else endpoints
