"""What the processes count themselves: `/metrics`, summed over labels."""

from __future__ import annotations

import asyncio
import urllib.request
from collections import defaultdict
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["scrape"]

_ANSWER_S_MAX: Final = 2.0


async def scrape(address: str) -> dict[str, float]:
    """Sample name → sum over its labels; empty when nobody answers. `address` is host:port of the metrics server."""
    try:
        text = await asyncio.to_thread(_get, address)
    except OSError:
        return {}
    sums: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] += sample.value
    return sums


def _get(address: str) -> str:
    # Loopback, by our own URL.
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=_ANSWER_S_MAX) as answer:
        text: str = answer.read().decode()
        return text
