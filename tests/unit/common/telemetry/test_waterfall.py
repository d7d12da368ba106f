"""Spans of several processes, read back as one tree."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from common.errors import InvalidRequest, NotFound, Reason
from common.telemetry.waterfall import read_spans, render, to_json

MS = 1_000_000
T1, T2 = "a1" + "0" * 30, "a2" + "0" * 30


def _line(
    trace_id: str, span_id: str, parent: str | None, name: str, at: int, ms: int, **more: Any
) -> str:
    record = {
        "trace_id": trace_id,
        "span_id": span_id,
        "parent_id": parent,
        "name": name,
        "service": "lepton-worker",
        "instance": "w1",
        "start_unix_ns": at * MS,
        "end_unix_ns": (at + ms) * MS,
        "kind": "internal",
        "status": "unset",
        "attributes": {},
        "events": [],
        "links": [],
        **more,
    }
    return json.dumps(record, separators=(",", ":"))


RPC = {"rpc.method": "lepton.v1.InferenceService/Generate"}
ROUTER = [
    _line(T1, "s0", None, RPC["rpc.method"], 0, 100, kind="server", instance="r1",
          attributes={**RPC, "rpc.response.status_code": "OK"}),
    _line(T1, "s1", "s0", "lepton.route", 1, 4, instance="r1"),
    _line(T1, "s2", "s0", RPC["rpc.method"], 5, 90, kind="client", instance="r1", attributes=RPC),
]  # fmt: skip
WORKER = [
    _line(T1, "s5", "s3", "lepton.decode", 40, 50),
    _line(T1, "s4", "s3", "lepton.prefill", 10, 30),
    _line(T1, "s3", "s2", RPC["rpc.method"], 6, 88, kind="server", attributes=RPC),
]


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    (tmp_path / "spans-lepton-router-r1-1.jsonl").write_text("\n".join(ROUTER) + "\n")
    (tmp_path / "spans-lepton-worker-w1-2.jsonl").write_text("\n".join(WORKER) + "\n")
    return tmp_path


def test_the_spans_of_all_processes_form_one_tree(folder: Path) -> None:
    spans = read_spans(folder)
    assert spans.trace_id == T1
    assert [span.span_id for span in spans] == ["s0", "s1", "s2", "s3", "s4", "s5"]
    data = to_json(spans)
    assert [item["depth"] for item in data] == [0, 1, 1, 2, 3, 3]
    assert (data[4]["offset_ms"], data[4]["duration_ms"]) == (10, 30)
    json.dumps(data)


def test_the_latest_trace_is_the_one_that_began_last(folder: Path) -> None:
    (folder / "spans-b.jsonl").write_text(_line(T2, "t0", None, "later", 50, 1) + "\n")
    assert read_spans(folder).trace_id == T2
    assert read_spans(folder, "A1").trace_id == T1


def test_an_older_part_of_a_file_is_read_too(folder: Path) -> None:
    path = folder / "spans-lepton-worker-w1-2.jsonl"
    path.rename(path.with_name(path.name + ".1"))
    assert len(read_spans(folder)) == 6


def test_an_ambiguous_prefix_is_an_error_that_lists_some(folder: Path) -> None:
    (folder / "spans-b.jsonl").write_text(_line(T2, "t0", None, "later", 50, 1) + "\n")
    with pytest.raises(InvalidRequest, match=f"2 traces begin with 'a': {T1}, {T2}") as refused:
        read_spans(folder, "a")
    assert refused.value.reason is Reason.TRACE_AMBIGUOUS


@pytest.mark.parametrize("prefix", ["b", "a1f", "nonsense\n", None])
def test_a_trace_that_is_not_there_is_an_error(tmp_path: Path, prefix: str | None) -> None:
    if prefix:
        (tmp_path / "spans-x.jsonl").write_text(ROUTER[0] + "\n")
    with pytest.raises(NotFound) as refused:
        read_spans(tmp_path, prefix)
    assert refused.value.reason is Reason.TRACE_NOT_FOUND


@pytest.mark.parametrize(
    "broken",
    [
        ROUTER[1][:-30],
        "[]",
        "null",
        "{}",
        "\x00\xff",
        ROUTER[1].replace('"lepton.route"', "7"),
        ROUTER[1].replace('"attributes":{}', '"attributes":[]'),
        ROUTER[1].replace('"end_unix_ns":5000000', '"end_unix_ns":true'),
        "[" * 100_000,
    ],
)
def test_a_broken_line_is_skipped_and_counted(folder: Path, broken: str) -> None:
    with (folder / "spans-lepton-router-r1-1.jsonl").open("a") as file:
        file.write(broken + "\n\n")
    spans = read_spans(folder)
    assert (len(spans), spans.num_skipped_lines) == (6, 1)


def test_orphans_are_roots_and_circles_end(tmp_path: Path) -> None:
    lines = [
        _line(T1, "a", "b", "circle one", 1, 1),
        _line(T1, "b", "a", "circle two", 2, 1),
        _line(T1, "c", "gone", "orphan", 3, 1),
        _line(T1, "d", "d", "own parent", 4, 1),
        _line(T1, "c", "gone", "same id again", 5, 1),
    ]
    (tmp_path / "spans-x.jsonl").write_text("\n".join(lines))
    data = to_json(read_spans(tmp_path))
    assert sorted(item["name"] for item in data) == sorted(
        ["circle one", "circle two", "orphan", "own parent", "same id again"]
    )


def _drawn(folder: Path, width: int = 100) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(render(read_spans(folder)))
    return out.getvalue().splitlines()


def test_the_drawing_has_a_line_per_span_with_bars_on_one_scale(folder: Path) -> None:
    lines = _drawn(folder)
    assert len(lines) == 7
    assert all(len(line.rstrip()) <= 100 for line in lines)
    assert lines[1].startswith("InferenceService/Generate (server)")
    assert lines[5].lstrip().startswith("lepton.prefill")
    assert "30.00" in lines[5]
    bars = [line.count("█") for line in lines[1:]]
    assert bars[0] > bars[4] > bars[1] > 0
    assert lines[6].index("█") > lines[5].index("█")


def test_names_from_a_file_cannot_draw_outside_their_cell(tmp_path: Path) -> None:
    evil = "\x1b[2J[red]x[/red]\r\n" + "y" * 5_000
    (tmp_path / "spans-x.jsonl").write_text(_line(T1, "a", None, evil, 0, 0, instance=evil) + "\n")
    lines = _drawn(tmp_path)
    assert len(lines) == 2
    assert "[red]x[/red]" in lines[1]
    assert lines[1].isprintable()


def test_nothing_draws_nothing() -> None:
    assert render([]).row_count == 0
    assert to_json([]) == []
