"""Follows the load of workers: one WatchLoad stream per endpoint, into the pool.

The stream is also the sign of life (`router.core.pulse`): the pool hears every report, and when a stream broke. Silence
it notices itself; here a silent stream is only opened anew, since the one before may hang where nobody reads.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Final, final

import grpc

from common.clock import Clock
from common.logs import get_logger
from lepton.v1 import worker_pb2
from router.core.endpoint import Endpoint, Load, TicketCounts
from router.core.handouts import Handouts
from router.core.policy.prefix_table import CacheNews, PrefixTable
from router.core.pool import EndpointPool
from router.upstream.channels import Channels

__all__ = ["LoadFeed", "LoadFeedLimits"]

_METHOD: Final = "/lepton.v1.WorkerService/WatchLoad"

_Watch = grpc.aio.UnaryStreamMultiCallable[
    worker_pb2.WatchLoadRequest, worker_pb2.WatchLoadResponse
]

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFeedLimits:
    """How often, how silent, how patient."""

    interval_ms: int
    """Longest time between two reports that we ask for."""
    silence_s_max: float
    """A stream without a report for that long is opened anew."""
    reconnect_s_min: float = 0.05
    reconnect_s_max: float = 1.0
    """The wait before a new attempt doubles from the one to the other, with jitter."""


@dataclass(slots=True)
class _Heard:
    """What one stream said before it ended."""

    reports: int = 0
    draining: bool = False
    is_silent: bool = False
    """It did not break: it said nothing any more."""


@final
class LoadFeed:
    """Makes one follower per endpoint; who runs and ends them is `Membership`."""

    def __init__(
        self,
        *,
        pool: EndpointPool,
        handouts: Handouts,
        prefixes: PrefixTable | None = None,
        channels: Channels,
        router_id: str,
        metadata: tuple[tuple[str, str], ...],
        limits: LoadFeedLimits,
        clock: Clock,
        random: Random,
    ) -> None:
        """`prefixes` learns what the caches of workers hold; None: nobody asks them."""
        self._pool = pool
        self._handouts = handouts
        self._prefixes = prefixes
        self._channels = channels
        self._request = worker_pb2.WatchLoadRequest(
            router_id=router_id, interval_ms=limits.interval_ms, prefixes=prefixes is not None
        )
        self._metadata = metadata
        self._limits = limits
        self._clock = clock
        self._random = random

    async def follow(self, endpoint: Endpoint) -> None:
        """Reports the load of `endpoint` until cancelled; whatever goes wrong is tried again."""
        failures = 0
        while True:
            heard = _Heard()
            try:
                problem = await self._listen(endpoint, heard)
            except Exception:
                # A fault of ours. One worker that cannot be followed must not end the router.
                log.exception("load.failed", worker_id=endpoint.id)
                problem = "a fault of ours"
            if not heard.is_silent:
                self._pool.lost(endpoint.id, endpoint.incarnation)
            failures = 1 if heard.reports else failures + 1
            if failures == 1:
                tell = log.info if heard.draining else log.warning
                tell("load.lost", worker_id=endpoint.id, reports=heard.reports, problem=problem)
            wait = self._limits.reconnect_s_min * 2.0 ** min(failures - 1, 16)
            wait = min(wait, self._limits.reconnect_s_max) * self._random.uniform(0.5, 1.0)
            await self._clock.sleep(wait)

    async def _listen(self, endpoint: Endpoint, heard: _Heard) -> str:
        """One stream to its end; returns why it ended."""
        channel = self._channels.acquire(endpoint.address)
        watch: _Watch = channel.unary_stream(
            _METHOD,
            request_serializer=worker_pb2.WatchLoadRequest.SerializeToString,
            response_deserializer=worker_pb2.WatchLoadResponse.FromString,
        )
        stream = watch(self._request, metadata=self._metadata)
        try:
            while True:
                async with asyncio.timeout(self._limits.silence_s_max):
                    report = await stream.read()
                if not isinstance(report, worker_pb2.WatchLoadResponse):
                    return "the stream ended"
                if report.incarnation != endpoint.incarnation:
                    return f"another process answers there ({report.incarnation})"
                heard.reports += 1
                heard.draining = report.state == worker_pb2.WORKER_STATE_DRAINING
                self._take(endpoint, report, draining=heard.draining)
        except TimeoutError:
            heard.is_silent = True
            return f"silent for {self._limits.silence_s_max:g} s"
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        finally:
            stream.cancel()
            self._channels.release(endpoint.address)

    def _take(
        self, endpoint: Endpoint, report: worker_pb2.WatchLoadResponse, *, draining: bool
    ) -> None:
        load = Load(
            step=report.step,
            running=report.running,
            waiting=report.waiting,
            rows_max=max(1, report.rows_max),
            waiting_tokens=report.waiting_tokens,
            kv_usage=report.kv_usage,
            in_flight_of_router=report.in_flight_of_router,
            received_at=self._clock.now(),
            step_ends_in_ms=report.step_ends_in_ms if report.HasField("step_ends_in_ms") else None,
            step_ms=_measure(report.step_ms),
            prefill_tokens_per_s=_measure(report.prefill_tokens_per_s),
            decode_tokens_per_s=_measure(report.decode_tokens_per_s),
            decode_rows=report.decode_rows,
            tickets=_counts(report.tickets) if report.HasField("tickets") else TicketCounts(),
        )
        self._pool.report(endpoint.id, endpoint.incarnation, load, draining=draining)
        self._handouts.reported((endpoint.id, endpoint.incarnation), load.tickets)
        if self._prefixes is not None and report.HasField("prefixes"):
            told = report.prefixes
            news = CacheNews(is_whole=told.is_whole, held=told.held, gone=told.gone)
            self._prefixes.hear((endpoint.id, endpoint.incarnation), news, load.received_at)


def _counts(told: worker_pb2.TicketCounts) -> TicketCounts:
    return TicketCounts(
        taken=told.taken, ended=told.ended, completed=told.completed, proved=told.proved
    )


def _measure(number: float) -> float:
    """What a worker measured; 0, which means unknown, for what cannot be."""
    return number if 0.0 < number < float("inf") else 0.0
