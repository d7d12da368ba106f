"""A trace for the page: found by its whole id, within bounds, without a word about where it lies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import InvalidRequest, NotFound, Reason
from gateway.page.traces import TraceReader
from gateway.settings import GatewaySettings

TRACE = "0af7651916cd43dd8448eb211c80319c"


def _span(number: int, trace_id: str = TRACE, **more: Any) -> str:
    return json.dumps(
        {
            "trace_id": trace_id,
            "span_id": f"{number:016x}",
            "parent_id": f"{number - 1:016x}" if number else None,
            "name": f"span {number}",
            "service": "lepton-router",
            "instance": "r1",
            "start_unix_ns": 1_000_000 * number,
            "end_unix_ns": 50_000_000,
            "kind": "internal",
            "status": "ok",
            **more,
        },
        separators=(",", ":"),
    )


def _write(folder: Path, *lines: str, name: str = "spans-lepton-router-r1-1.jsonl") -> None:
    (folder / name).write_text("".join(f"{line}\n" for line in lines))


async def test_the_spans_come_in_tree_order(tmp_path: Path) -> None:
    _write(tmp_path, _span(2), _span(1), _span(7, "f" * 32), _span(0))
    trace = await TraceReader(tmp_path, GatewaySettings()).read(TRACE)
    assert [(span["name"], span["depth"]) for span in trace["spans"]] == [
        ("span 0", 0),
        ("span 1", 1),
        ("span 2", 2),
    ]
    assert (trace["duration_ms"], trace["num_left_out"]) == (50.0, 0)


@pytest.mark.parametrize(
    "trace_id", ["", "0af7", TRACE.upper(), TRACE + "0", "../" * 10 + "aa", "é" * 32]
)
async def test_only_a_whole_id_is_looked_for(tmp_path: Path, trace_id: str) -> None:
    _write(tmp_path, _span(0))
    with pytest.raises(InvalidRequest) as raised:
        await TraceReader(tmp_path, GatewaySettings()).read(trace_id)
    assert raised.value.field == "trace_id"


async def test_a_trace_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    _write(tmp_path, "{cut", _span(0, "f" * 32))
    for folder in (tmp_path, tmp_path / "none", None):
        with pytest.raises(NotFound) as raised:
            await TraceReader(folder, GatewaySettings()).read(TRACE)
        assert raised.value.reason is Reason.TRACE_NOT_FOUND
        assert str(tmp_path) not in raised.value.message


async def test_a_trace_of_many_spans_is_cut(tmp_path: Path) -> None:
    _write(tmp_path, *(_span(number) for number in range(20)))
    trace = await TraceReader(tmp_path, GatewaySettings(trace_spans_max=5)).read(TRACE)
    assert (len(trace["spans"]), trace["num_left_out"]) == (5, 15)


async def test_only_the_ends_of_large_files_are_read(tmp_path: Path) -> None:
    settings = GatewaySettings(trace_read_bytes_max=65_536)  # 8 KiB of one file
    filler = [_span(number, "f" * 32) for number in range(200)]
    _write(tmp_path, _span(0), *filler, name="spans-lepton-worker-w1-2.jsonl")
    with pytest.raises(NotFound):
        await TraceReader(tmp_path, settings).read(TRACE)
    _write(tmp_path, *filler, _span(0), name="spans-lepton-worker-w1-2.jsonl")
    assert len((await TraceReader(tmp_path, settings).read(TRACE))["spans"]) == 1
