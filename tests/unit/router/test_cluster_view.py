"""What people may see of a router's pool."""

from __future__ import annotations

from random import Random

from router.cluster_view import PoolView
from router.core.alias import Aliases
from router.core.endpoint import EndpointState, Load
from router.core.pool import EndpointPool
from tests.support.endpoints import make_endpoint
from tests.support.manual_clock import ManualClock


async def test_workers_are_shown_in_every_state_and_models_that_can_be_asked() -> None:
    clock = ManualClock()
    pool = EndpointPool(clock, hold_down_s_max=60, abandon_s=5, remember_s=60)
    view = PoolView(pool, Aliases({}, Random(0)), clock)
    assert (await view.look()).workers == ()

    pool.apply([make_endpoint("w2"), make_endpoint("w1")], stale=False)
    busy = Load(running=3, rows_max=8, decode_tokens_per_s=50.0, decode_rows=3, step_ends_in_ms=5)
    pool.report("w1", "w1-1", busy, draining=False)
    picture = await view.look()

    assert picture.workers is not None
    assert [(worker.id, worker.state) for worker in picture.workers] == [
        ("w1", "ready"),
        ("w2", "connecting"),
    ]
    assert (picture.workers[0].running, picture.workers[0].tokens_per_s) == (3, 150.0)
    assert [(model.model, model.num_workers) for model in picture.models] == [("tiny", 1)]
    assert picture.stale_s is None


async def test_an_idle_worker_makes_no_tokens_however_fast_it_was() -> None:
    clock = ManualClock()
    pool = EndpointPool(clock, hold_down_s_max=60, abandon_s=5, remember_s=60)
    pool.apply([make_endpoint("w1", state=EndpointState.READY)], stale=False)
    pool.report("w1", "w1-1", Load(decode_tokens_per_s=50.0, decode_rows=3), draining=False)
    picture = await PoolView(pool, Aliases({}, Random(0)), clock).look()
    assert picture.workers is not None
    assert picture.workers[0].tokens_per_s == 0


async def test_a_list_without_registry_says_how_old_it_is() -> None:
    clock = ManualClock()
    pool = EndpointPool(clock, hold_down_s_max=60, abandon_s=5, remember_s=60)
    pool.apply([make_endpoint("w1")], stale=True)
    clock.advance(7)
    picture = await PoolView(pool, Aliases({}, Random(0)), clock).look()
    assert picture.stale_s == 7
