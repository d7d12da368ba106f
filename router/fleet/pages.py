"""The `/metrics` pages of several processes as one, each sample with a label that says whose it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPConnection, HTTPException
from typing import Final, final

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from common.logs import get_logger

__all__ = ["Pages", "fetch", "merged"]

LABEL: Final = "process"
FETCH_S_MAX: Final = 2.0
"""Longest wait for the page of one process, seconds."""

log = get_logger(__name__)


def merged(pages: Mapping[str, str]) -> Iterator[Metric]:
    """Process → page in Prometheus text, as metric families in the order in which they first appear."""
    families: dict[str, Metric] = {}
    for process, page in pages.items():
        for family in text_string_to_metric_families(page):
            into = families.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            for sample in family.samples:
                into.add_sample(sample.name, {LABEL: process, **sample.labels}, sample.value)
    yield from families.values()


def fetch(port: int, path: str) -> tuple[int, str]:
    """Status and body of a page of a process on this machine. Raises OSError or HTTPException."""
    connection = HTTPConnection("127.0.0.1", port, timeout=FETCH_S_MAX)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


@final
class Pages(Collector):
    """Asks every process when it is asked. `ports` says process → port of those that serve, from any thread."""

    def __init__(self, ports: Callable[[], Mapping[str, int]]) -> None:
        self._ports = ports

    def collect(self) -> Iterator[Metric]:
        pages = {}
        for process, port in self._ports().items():
            try:
                _, pages[process] = fetch(port, "/metrics")
            except (OSError, HTTPException) as error:  # it has just ended
                log.debug("fleet.page_missing", process=process, error=str(error))
        return merged(pages)

    def describe(self) -> list[Metric]:
        """Nothing that could be said without asking."""
        return []

    def any_ready(self) -> bool:
        """Whether one process takes calls."""
        for port in self._ports().values():
            try:
                if fetch(port, "/readyz")[0] == 200:
                    return True
            except (OSError, HTTPException):
                continue
        return False
