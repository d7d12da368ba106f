"""Negative controls: the checks find what they are for."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from common.logs import get_logger
from tests.support.demo_cluster import SECRET, demo_cluster
from tests.support.unharmed import GAP_S_MAX, unharmed

log = get_logger("gateway.test")


def _stand_still() -> None:
    until = time.process_time() + 1.5 * GAP_S_MAX
    while time.process_time() < until:
        pass


def _log_a_secret() -> None:
    log.info("test.said", token=SECRET)


def _log_a_stack() -> None:
    try:
        raise ValueError("inside")
    except ValueError:
        log.exception("test.failed")


async def _harmed(harm: Callable[[], None]) -> bool:
    found = False
    async with demo_cluster() as cluster:
        try:
            async with unharmed(cluster, has_neighbour=False) as watch:
                await watch.check()
                harm()
        except* AssertionError:
            found = True
    return found


@pytest.mark.parametrize("harm", [_stand_still, _log_a_secret, _log_a_stack])
async def test_harm_is_found(harm: Callable[[], None]) -> None:
    assert await _harmed(harm)


async def test_nothing_is_no_harm() -> None:
    assert not await _harmed(lambda: None)
