"""U5: whoever sends what is refused takes no more from the others than whoever asks for a word.

How long the others wait depends on the machine; what they wait for is the compute of this process, which does not: a
refusal costs no more of it than a short answer, at every door and for every reason.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from tests.support.bad_requests import ROWS, one_of_each
from tests.support.demo_cluster import demo_cluster
from tests.support.doors import DOORS, Answered, Doors, Refusal, doors_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

BATCHES, CALLS = 5, 4
"""The cheapest of so many batches counts: others are disturbed."""
TOKENS = 8
SHORT: Mapping[str, Any] = {"max_tokens": TOKENS, "ignore_eos": True}
IN_PROTO: Mapping[str, Any] = {"text": "hello", "stop": SHORT}
ANSWERS: Mapping[str, Mapping[str, Any]] = {
    "gRPC": IN_PROTO,
    "WebSocket": IN_PROTO,
    "chat": SHORT,
    "chat, streamed": SHORT,
    "completions": SHORT,
    "completions, streamed": SHORT,
    "KServe": {"parameters": SHORT},
    "KServe, gRPC": {"parameters": SHORT},
}


@pytest_asyncio.fixture(name="doors", scope="module", loop_scope="module")
async def _doors() -> AsyncIterator[Doors]:
    async with demo_cluster() as cluster, doors_of(cluster) as doors:
        yield doors


async def _cost_s(doors: Doors, door: str, asked: Mapping[str, Any], kind: type) -> float:
    """Compute of the whole process for one call, client included, seconds."""
    spent = []
    for _ in range(BATCHES):
        began = time.process_time()
        for _ in range(CALLS):
            assert isinstance(await DOORS[door](doors, asked), kind)
        spent.append((time.process_time() - began) / CALLS)
    return min(spent)


@pytest.mark.parametrize("door", DOORS)
async def test_a_refusal_costs_no_more_than_a_short_answer(doors: Doors, door: str) -> None:
    answer_s = await _cost_s(doors, door, ANSWERS[door], Answered)
    dear = {}
    for (where, reason), asked in one_of_each(ROWS).items():
        if where == door:
            cost_s = await _cost_s(doors, door, asked, Refusal)
            if cost_s > answer_s:
                dear[reason] = (cost_s, answer_s)
    assert dear == {}
