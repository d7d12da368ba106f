"""The measuring stick of the router: its two ends understand each other, and tokens are counted however they come."""

from __future__ import annotations

import asyncio
from pathlib import Path

from common.request.event_order import seq_after
from lepton.v1 import inference_pb2
from loadtest.clients import grpc, http2
from loadtest.clients.ask import ask_first, ask_rate
from loadtest.clients.grpc import count_tokens
from loadtest.clients.words import FLOOD, STEPS
from loadtest.doors.report import aims as door_aims
from loadtest.doors.report import comparison as door_comparison
from loadtest.router.measure import Figures
from loadtest.router.report import aims, comparison
from loadtest.router.upstream import STARTED, TOKEN, TOKENS_MAX, serve, token


async def test_ends_agree_on_every_token(tmp_path: Path) -> None:
    addresses: asyncio.Queue[str] = asyncio.Queue()
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(serve(tmp_path, addresses.put_nowait))
        address = await addresses.get()
        flooded = await ask_rate(
            grpc.connect, address, FLOOD, connections=2, streams=2, tokens=1000, seconds=0.2
        )
        assert flooded["tokens"] == flooded["messages"] > 4000
        stepped = await ask_rate(
            grpc.connect, address, STEPS, connections=1, streams=2, tokens=5, seconds=0.2
        )
        assert 0 < stepped["tokens"] <= 2 * 0.5 / 0.01
        times = (await ask_first(grpc.connect, address, requests=3, gap_s=0.0))["first_s"]
        assert len(times) == 3
        serving.cancel()


def test_tokens_are_the_same_length_and_in_order() -> None:
    tokens = [token(seq) for seq in (0, 1, 127, 128, 1000, TOKENS_MAX - 1)]
    assert {len(one) for one in (STARTED, *tokens)} == {len(TOKEN)}
    assert seq_after(STARTED, 0) == 1
    assert [seq_after(token(seq), seq) for seq in range(300)] == list(range(1, 301))
    parsed = [inference_pb2.GenerateResponse.FromString(one).events[0] for one in tokens]
    assert [event.seq for event in parsed] == [0, 1, 127, 128, 1000, TOKENS_MAX - 1]
    assert all(event.delta.token_ids == [20_000] for event in parsed)


def test_merged_messages_count_as_their_tokens() -> None:
    whole = http2.message(TOKEN) + http2.message(TOKEN * 7) + http2.message(TOKEN)
    cut = len(whole) - 3
    assert count_tokens(whole) == (9, 3, b"")
    tokens, messages, rest = count_tokens(whole[:cut])
    assert (tokens, messages) == (8, 2)
    assert count_tokens(rest + whole[cut:]) == (1, 1, b"")


def figures(way: str, processes: int, *, cpu: float, first: float) -> Figures:
    return Figures(
        way=way,
        processes=processes,
        tokens_per_s=[1000.0, 1100.0],
        tokens_per_message=[1.0, 1.0],
        flood_cpu_us=[cpu, 2 * cpu],
        steps_cpu_us=[cpu, 2 * cpu],
        call_cpu_us=[100.0, 100.0],
        first_p50_ms=[first, first],
        first_p99_ms=[first, first],
        idle_stream_bytes=10_240.0 if processes else None,
    )


def test_aims_are_judged_within_a_round() -> None:
    """A machine that halves its speed between two rounds changes no ratio."""
    every = [
        figures("directly", 0, cpu=0.0, first=0.25),
        figures("lepton-router × 1", 1, cpu=40.0, first=1.0),
        figures("lepton-router × 2", 2, cpu=50.0, first=1.0),
    ]
    ratio, _, added, _ = aims(every)
    assert ratio.value == 1.25
    assert ratio.is_met is False
    assert added.value == 0.75
    assert added.is_met is True
    rows = comparison(every).rows
    assert rows[0][3] == "–"
    assert rows[1][3] == "60.0"
    assert rows[1][-1] == "10"


def test_doors_are_judged_beside_grpc_within_a_round() -> None:
    doors = [
        figures("gRPC", 1, cpu=40.0, first=1.0),
        figures("REST, completions", 1, cpu=48.0, first=1.5),
        figures("WebSocket", 1, cpu=60.0, first=4.0),
    ]
    for one in doors[1:]:
        one.idle_lost = 0
    flooded, stepped, call, first, lost, *others = door_aims(doors)
    assert [round(row.value, 3) for row in (flooded, stepped, call, first)] == [1.2, 1.2, 1.0, 0.5]
    assert [row.is_met for row in (flooded, stepped, call, first, lost)] == [
        True,
        True,
        None,
        True,
        True,
    ]
    assert [row.is_met for row in others] == [False, False, None, False, True]
    assert len(door_comparison(doors).rows) == 3
