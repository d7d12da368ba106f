"""`lepton top`: from pages to a picture, from a picture to lines, and its screen driven by keys."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable
from typer.testing import Result

from agent.state import ClusterState, ProcessState
from cli.http.base_url import parse_base_url
from cli.top.app import TopApp
from cli.top.columns import COLUMNS, shown, sorted_workers
from cli.top.picture import RouterLine, TopPicture, WorkerLine
from cli.top.source import TopSource
from cli.top.summary import sparkline
from common.errors import LeptonError, Unavailable
from tests.support.manual_clock import ManualClock
from tests.support.scripted_http import Asked, Told, scripted_http

Lepton = Callable[..., Result]

WORKER = WorkerLine(
    id="w1",
    model="demo",
    revision="0123456789abcdef",
    state="ready",
    trouble="",
    running=3,
    rows_max=16,
    waiting=1,
    kv_usage=0.25,
    tokens_per_s=120.0,
)
W2 = replace(WORKER, id="w2", state="ejected", trouble="slow", running=9, tokens_per_s=10.0)
PICTURE = TopPicture(
    where="http://127.0.0.1:8080",
    at=1.0,
    router=RouterLine(in_flight=4, queued=2),
    workers=(WORKER, W2),
    stale_s=None,
)

# --- the source ---------------------------------------------------------------------------------


def _json_worker(**changes: object) -> dict[str, object]:
    plain = {
        name: getattr(WORKER, name) for name in ("id", "model", "revision", "state", "trouble")
    }
    load = {"running": 3, "rows_max": 16, "waiting": 1, "kv_usage": 0.25, "tokens_per_s": 120.0}
    return {**plain, **load, **changes}


def _state(metrics: str) -> ClusterState:
    return ClusterState(
        version="0",
        agent_pid=1,
        agent_started=1,
        address="127.0.0.1:1",
        processes=(
            ProcessState(name="w1", pid=77, address="127.0.0.1:4001", metrics_address=metrics),
            ProcessState(name="router", pid=78, metrics_address=metrics),
        ),
    )


class Door:
    """Answers `/api/cluster` and `/metrics`."""

    def __init__(self) -> None:
        self.cluster: Any = {"models": [], "workers": [_json_worker(id="w1-r2")], "stale_s": 1.5}
        self.calls = 100

    async def __call__(self, asked: Asked) -> Told:
        if asked.path == "/metrics":
            page = (
                "# TYPE lepton_requests counter\n"
                f'lepton_requests_total{{model="a",code="OK"}} {self.calls}\n'
                f'lepton_requests_total{{model="b",code="OK"}} {self.calls}\n'
                'lepton_queue_waiting{band="high"} 1\nlepton_queue_waiting{band="low"} 2\n'
                "lepton_requests_in_flight 5\nlepton_refusals_total 0\n"
                "lepton_prompt_tokens_total 200\nlepton_cached_tokens_total 50\n"
                "lepton_time_to_first_token_seconds_sum 3\n"
                "lepton_time_to_first_token_seconds_count 2\n"
            )
            return Told(body=page.encode())
        assert asked.path == "/api/cluster"
        return Told(body=json.dumps(self.cluster).encode())


async def test_a_picture_from_the_routers_view_and_the_pages_of_this_machine() -> None:
    door, clock = Door(), ManualClock()
    async with scripted_http(door) as server:
        base = parse_base_url(server.url)
        state = _state(server.url.removeprefix("http://"))
        async with TopSource(lambda: (base, state), clock) as source:
            first = await source.look()
            door.calls += 30
            clock.advance(2.0)
            second = await source.look()
            door.calls = 0  # a router that was started again
            clock.advance(2.0)
            third = await source.look()
    (worker,) = first.workers
    assert (worker.id, worker.pid, worker.address) == ("w1-r2", 77, "127.0.0.1:4001")
    assert (worker.cached, worker.first_token_s) == (0.25, 1.5)
    assert first.router == RouterLine(in_flight=5, queued=3)
    assert first.stale_s == 1.5
    assert second.router.requests_per_s == 30.0
    assert third.router.requests_per_s is None


async def test_another_machines_cluster_is_one_request_a_picture() -> None:
    async with scripted_http(Door()) as server:
        async with TopSource(lambda: (parse_base_url(server.url), None), ManualClock()) as source:
            for _ in range(3):
                picture = await source.look()
        assert (len(server.asked), server.num_connections) == (3, 1)
    assert picture.router == RouterLine()
    assert picture.workers[0].cached is None


async def test_pages_that_are_silent_or_odd_cost_only_their_numbers() -> None:
    async def odd(asked: Asked) -> Told:
        if asked.path == "/metrics":
            return Told(body=b"\xff not { metrics")
        return Told(body=json.dumps({"workers": [_json_worker()]}).encode())

    async with scripted_http(odd) as server:
        base = parse_base_url(server.url)
        for metrics in (server.url.removeprefix("http://"), "127.0.0.1:1"):
            state = _state(metrics)
            async with TopSource(lambda: (base, state), ManualClock()) as source:  # noqa: B023
                picture = await source.look()
            assert picture.router.in_flight is None
            assert picture.workers[0].pid == 77


@pytest.mark.parametrize(
    "told",
    [
        Told(status=404),
        Told(body=b"<html>"),
        Told(body=b'{"workers": null}'),
        Told(body=b'{"workers": [{}]}'),
        Told(raw=b""),
    ],
)
async def test_doors_that_show_no_workers(told: Told) -> None:
    async def answer(asked: Asked) -> Told:
        return told

    async with (
        scripted_http(answer) as server,
        TopSource(lambda: (parse_base_url(server.url), None), ManualClock()) as source,
    ):
        with pytest.raises(LeptonError):
            await source.look()


# --- lines --------------------------------------------------------------------------------------


def test_columns_fit_and_sort() -> None:
    assert [column.title for column in shown(80)][-1] == "kv"
    assert [column.title for column in shown(200)] == [column.title for column in COLUMNS]
    assert sum(column.width + 2 for column in shown(80)) <= 78  # and a scroll bar
    by = {column.title: column for column in COLUMNS}
    ids = [w.id for w in sorted_workers(PICTURE.workers, by["rows"], reverse=False)]
    assert ids == ["w2", "w1"]
    assert [w.id for w in sorted_workers(PICTURE.workers, by["rows"], reverse=True)] == ["w1", "w2"]


def test_sparklines() -> None:
    assert sparkline([0, 7, 3.5, 7], 3) == "█▅█"
    assert sparkline([0, 0], 5) == sparkline([], 5) == ""


def test_once_and_json_without_a_cluster(lepton: Lepton) -> None:
    done = lepton("top", "--once", "--url", "http://127.0.0.1:1")
    assert done.exit_code == 1
    assert "does not answer" in done.stderr
    done = lepton("top", "--once", "--json", "--url", "http://127.0.0.1:1")
    assert json.loads(done.stdout)["error"]["reason"] == "UNREACHABLE"
    done = lepton("top")
    assert done.exit_code == 2
    assert "no terminal" in done.stderr


# --- the screen ---------------------------------------------------------------------------------


class Cluster:
    """What the screen looks at."""

    def __init__(self) -> None:
        self.picture = PICTURE
        self.error: LeptonError | None = None
        self.looks = 0

    async def __call__(self) -> TopPicture:
        self.looks += 1
        if self.error is not None:
            raise self.error
        return self.picture


class Screen:
    """`lepton top` in a test."""

    def __init__(self, **options: Any) -> None:
        self.cluster, self.clock = Cluster(), ManualClock()
        self.app = TopApp(self.cluster, self.clock, interval_s=1.0, **options)

    async def next(self, pilot: Pilot[None]) -> None:
        """One look later."""
        looks = self.cluster.looks
        await self.clock.wait_for_sleepers(1)
        self.clock.advance(1.0)
        while self.cluster.looks == looks:
            await pilot.pause()
        await pilot.pause()

    def text(self) -> str:
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in strips)

    @property
    def ids(self) -> list[str | None]:
        return [row.key.value for row in self.app.query_one(DataTable).ordered_rows]

    @property
    def cursor(self) -> str | None:
        table = self.app.query_one(DataTable)
        return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
async def test_the_screen_shows_the_cluster(size: tuple[int, int]) -> None:
    screen = Screen()
    async with screen.app.run_test(size=size) as pilot:
        await screen.clock.wait_for_sleepers(1)
        await pilot.pause()
        text = screen.text()
        assert "1/2 workers serve" in text
        assert "1 ejected or lost" in text
        assert "130 tokens/s" in text
        assert "4 waiting  4 calls in flight" in text  # 2 in the router, 1 in each worker
        assert "ejected" in text
        assert ("slow" in text) is (size[0] > 100)
        await pilot.resize_terminal(200, 40)
        await pilot.pause()
        assert "slow" in screen.text()
        await pilot.resize_terminal(40, 8)
        await pilot.pause()
        assert "w1" in screen.text()


async def test_keys() -> None:
    screen = Screen()
    async with screen.app.run_test(size=(80, 24)) as pilot:
        await screen.clock.wait_for_sleepers(1)
        await pilot.pause()
        assert screen.ids == ["w1", "w2"]
        await pilot.press("r")
        assert screen.ids == ["w2", "w1"]
        await pilot.press("r", "s", "s", "s")
        assert screen.ids == ["w2", "w1"]  # by rows, the most first
        assert "rows▼" in screen.text()
        assert screen.cursor == "w1"  # it stays with its worker
        await pilot.press("up", "enter")
        assert "ejected: slow" in screen.text()
        assert "9/16 rows, 1 waiting, KV 25%" in screen.text()
        await pilot.press("escape")
        assert "9/16 rows, 1 waiting" not in screen.text()
        await pilot.press("p")
        assert "paused" in screen.text()
        looks = screen.cluster.looks
        for _ in range(3):
            await screen.clock.wait_for_sleepers(1)
            screen.clock.advance(1.0)
            await pilot.pause()
        assert screen.cluster.looks == looks
        await pilot.press("space")
        await screen.next(pilot)
        await pilot.press("q")
    assert screen.app.return_code == 0


async def test_a_cluster_that_goes_and_comes_back() -> None:
    screen = Screen(worker="w2")
    screen.cluster.error = Unavailable("nobody there")
    async with screen.app.run_test(size=(80, 24)) as pilot:
        await screen.clock.wait_for_sleepers(1)
        await pilot.pause()
        assert "nobody there; asking again" in screen.text()
        screen.cluster.error = None
        await screen.next(pilot)
        assert "ejected: slow" in screen.text()  # the worker that was asked for
        screen.cluster.error = Unavailable("gone")
        await screen.next(pilot)
        assert "gone; asking again" in screen.text()
        assert screen.ids == ["w1", "w2"]  # what was known last
        screen.cluster.error = None
        screen.cluster.picture = replace(PICTURE, workers=(WORKER,))
        await screen.next(pilot)
        assert screen.ids == ["w1"]
        assert "gone" not in screen.text()
        assert "0123456789ab" in screen.text()  # the details of the one that is left


async def test_many_workers_and_what_they_call_themselves() -> None:
    evil = "[bold]\x1b[2J\x9bx"
    workers = tuple(
        replace(WORKER, id=f"{evil}{n:04}", model=evil, trouble=evil) for n in range(300)
    )
    screen = Screen()
    screen.cluster.picture = replace(PICTURE, workers=workers)
    async with screen.app.run_test(size=(160, 24)) as pilot:
        await screen.clock.wait_for_sleepers(1)
        await pilot.press(*["down"] * 30)
        await screen.next(pilot)
        text = screen.text()
        assert screen.cursor == f"{evil}0030"
        assert "[bold]" in text
        assert "\x1b[2J" not in text


async def test_the_screen_goes_on_while_it_waits_for_an_answer() -> None:
    """A look that hangs holds no key."""
    never = asyncio.Event()

    async def look() -> TopPicture:
        await never.wait()
        return PICTURE

    app = TopApp(look, ManualClock(), interval_s=1.0)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("s", "enter", "q")
    assert app.return_code == 0
