"""Where `lepton top` looks: the router's view of the cluster (`GET /api/cluster`), one request a picture.

Where `lepton up` runs the cluster on this machine, the metrics pages of its processes add what the router does not see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Final, Self, final

import msgspec

from agent.roles import ROUTER, process_of
from agent.state import ClusterState, ProcessState
from cli.http.base_url import BaseUrl, parse_base_url
from cli.http.connection import HttpConnection
from cli.top.metrics_page import MetricsPage
from cli.top.picture import RouterLine, TopPicture, WorkerLine
from common.clock import Clock
from common.errors import LeptonError, Reason, Unavailable

__all__ = ["TopSource"]

_LOOK_S_MAX: Final = 2.0
_BYTES_MAX: Final = 16 << 20


class _Worker(msgspec.Struct):
    id: str
    model: str
    revision: str
    state: str
    trouble: str
    running: int
    rows_max: int
    waiting: int
    kv_usage: float
    tokens_per_s: float


class _Cluster(msgspec.Struct):
    workers: list[_Worker] | None
    stale_s: float | None = None


@final
class TopSource:
    """Keeps its connections from picture to picture. Use as `async with`.

    `find` says which door to ask and what is known of its cluster; it is asked each time, since a cluster that is
    started again has other ports.
    """

    def __init__(
        self, find: Callable[[], tuple[BaseUrl, ClusterState | None]], clock: Clock
    ) -> None:
        self._find = find
        self._clock = clock
        self._connections: dict[str, HttpConnection] = {}
        self._counts: tuple[float, int, int] | None = None
        """When, and the router's calls and refusals then."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._forget_all_but(set())

    async def look(self) -> TopPicture:
        """The cluster now. Raises `LeptonError` when there is nobody to say; what else is silent is left out."""
        door, state = self._find()
        processes = {one.name: one for one in state.processes} if state else {}
        addresses = {one.metrics_address for one in processes.values()} - {""}
        await self._forget_all_but({str(door), *map(_url, addresses)})
        cluster = await self._cluster(door)
        found = await asyncio.gather(*(self._page(address) for address in addresses))
        by_address = dict(zip(addresses, found, strict=True))
        pages = {name: by_address.get(one.metrics_address) for name, one in processes.items()}
        return TopPicture(
            where=str(door),
            at=self._clock.wall(),
            router=self._router_line(pages.get(ROUTER)),
            workers=tuple(_line(one, pages, processes) for one in cluster.workers or ()),
            stale_s=cluster.stale_s,
        )

    async def _cluster(self, door: BaseUrl) -> _Cluster:
        reply = await self._connection(door).ask("GET", "/api/cluster", timeout_s=_LOOK_S_MAX)
        try:
            found = msgspec.json.decode(reply.body, type=_Cluster) if reply.status == 200 else None
        except msgspec.DecodeError:
            found = None
        if found is None or found.workers is None:
            raise Unavailable(
                f"{door} shows no workers (status {reply.status}): it is no router of ours, or has "
                "gateway.page off",
                reason=Reason.UNREACHABLE,
            )
        return found

    async def _page(self, address: str) -> MetricsPage | None:
        connection = self._connection(parse_base_url(_url(address)))
        try:
            reply = await connection.ask("GET", "/metrics", timeout_s=_LOOK_S_MAX)
        except LeptonError:
            return None
        return MetricsPage(reply.body.decode("utf-8", "replace")) if reply.status == 200 else None

    def _connection(self, base: BaseUrl) -> HttpConnection:
        name = str(base)
        if name not in self._connections:
            self._connections[name] = HttpConnection(base, body_bytes_max=_BYTES_MAX)
        return self._connections[name]

    async def _forget_all_but(self, names: set[str]) -> None:
        for name in self._connections.keys() - names:
            await self._connections.pop(name).close()

    def _router_line(self, page: MetricsPage | None) -> RouterLine:
        if page is None:
            self._counts = None
            return RouterLine()
        now = self._clock.now()
        calls = page.total("lepton_requests_total") or 0
        refusals = page.total("lepton_refusals_total") or 0
        line = RouterLine(
            in_flight=page.total("lepton_requests_in_flight"),
            queued=page.total("lepton_queue_waiting"),
        )
        before, self._counts = self._counts, (now, calls, refusals)
        # A router that was started again counts from 0.
        if before is None or now <= before[0] or calls < before[1]:
            return line
        seconds = now - before[0]
        return replace(
            line,
            requests_per_s=(calls - before[1]) / seconds,
            refusals_per_s=max(0, refusals - before[2]) / seconds,
        )


def _url(address: str) -> str:
    return f"http://{address}"


def _line(
    worker: _Worker, pages: Mapping[str, MetricsPage | None], processes: Mapping[str, ProcessState]
) -> WorkerLine:
    line = WorkerLine(**msgspec.structs.asdict(worker))
    name = process_of(worker.id)
    if (process := processes.get(name)) is not None:
        line = replace(line, address=process.address or None, pid=process.pid)
    if (page := pages.get(name)) is None:
        return line
    return replace(
        line,
        cached=page.ratio("lepton_cached_tokens_total", "lepton_prompt_tokens_total"),
        first_token_s=page.ratio(
            "lepton_time_to_first_token_seconds_sum", "lepton_time_to_first_token_seconds_count"
        ),
        generated=page.total("lepton_generation_tokens_total"),
        errors=page.total("lepton_errors_total"),
    )
