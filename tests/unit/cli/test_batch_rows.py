"""Lines of a batch file: what is a row, what is wrong with those that are none, and what comes of them."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from cli.batch.known import DoneRows, SeenIds
from cli.batch.result import RowResult, read_result
from cli.batch.row import RowError, read_row
from cli.batch.source import Line, measure, read_lines


def _line(data: bytes | None) -> Line:
    return Line(number=3, data=data, bytes_max=100)


def _row(**changes: object) -> bytes:
    row = {
        "custom_id": "a",
        "method": "POST",
        "url": "/v1/completions",
        "body": {"prompt": "x"},
        **changes,
    }
    return json.dumps({k: v for k, v in row.items() if v is not None}).encode()


def test_a_row_keeps_its_body_to_the_byte() -> None:
    body = b'{"temperature": 1.00,  "seed":12345678901234567890, "x": "\\u00e9"}'
    row = read_row(_line(b'{"custom_id":"a","url":"/v1/completions","body":' + body + b"}"))
    assert (row.line, row.custom_id, row.url, row.body) == (3, "a", "/v1/completions", body)


@pytest.mark.parametrize(
    ("data", "code", "custom_id"),
    [
        (None, "line_too_long", None),
        (b"nonsense", "invalid_json", None),
        (b"\xff\xfe", "invalid_json", None),
        (b"[" * 100_000, "invalid_row", None),
        (b'{"a":' * 100_000, "invalid_json", None),
        (b"[1]", "invalid_row", None),
        (b'{"custom_id": "\\ud800"}', "invalid_json", None),
        (_row(custom_id=None), "invalid_row", None),
        (_row(custom_id=7), "invalid_row", None),
        (_row(url=None), "invalid_row", "a"),
        (_row(body=None), "invalid_row", "a"),
        (_row(custom_id=""), "invalid_custom_id", None),
        (_row(custom_id="x" * 513), "invalid_custom_id", None),
        (_row(method="GET"), "invalid_method", "a"),
        (_row(url="/v1/embeddings"), "invalid_url", "a"),
        (_row(url="http://elsewhere/v1/completions"), "invalid_url", "a"),
        (_row(body=[1]), "invalid_body", "a"),
        (_row(body={"prompt": "x", "stream": True}), "stream_not_allowed", "a"),
    ],
)
def test_what_is_no_row(data: bytes | None, code: str, custom_id: str | None) -> None:
    with pytest.raises(RowError) as caught:
        read_row(_line(data))
    assert (caught.value.code, caught.value.custom_id) == (code, custom_id)
    assert len(caught.value.message) < 1000


def test_a_body_that_is_wrong_in_itself_is_the_servers_to_judge() -> None:
    assert read_row(_line(_row(body={"n": "many", "stream": False}))).custom_id == "a"


def test_lines_are_bounded_and_numbered(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"one\r\n\n" + b"x" * 50 + b"\n" + b"y" * 10 + b"\nlast")
    lines = list(read_lines(path, bytes_max=10))
    assert [(line.number, line.data) for line in lines] == [
        (1, b"one"),
        (3, None),
        (4, b"y" * 10),
        (5, b"last"),
    ]
    size = measure(path)
    assert (size.rows, size.last) == (4, 5)


@pytest.mark.parametrize(
    ("result", "is_success"),
    [
        (RowResult(line=1, custom_id="a", status=200, body=b'{"x": 1}'), True),
        (RowResult(line=2, custom_id="a", status=429, body=b'{"error": {"code": "full"}}'), False),
        (RowResult(line=3, custom_id=None, code="invalid_json", message="no"), False),
        (RowResult(line=4, custom_id="a", status=502, body=b"<html>\nno\xff"), False),
        (RowResult(line=5, custom_id="a", status=200, body=b"?", code="invalid_response"), False),
    ],
)
def test_a_result_is_one_line_that_the_next_run_understands(
    result: RowResult, is_success: bool
) -> None:
    data = result.encode()
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    value = json.loads(data)
    assert set(value) == {"id", "custom_id", "response", "error"}
    assert value["id"] == f"batch_req_{result.line}"
    if result.status is not None:
        assert set(value["response"]) == {"status_code", "request_id", "body"}
    if result.code:
        assert set(value["error"]) == {"code", "message"}
    written = read_result(data)
    assert written is not None
    assert (written.line, written.custom_id) == (result.line, result.custom_id)
    assert written.is_success is result.is_success is is_success


@pytest.mark.parametrize(
    "data", [b"", b"{}\n", b'{"id":"x","custom_id":null,"response":null,"error":null}\n', b"\0\0\n"]
)
def test_lines_of_something_else(data: bytes) -> None:
    assert read_result(data) is None


def test_what_is_known_of_a_million_rows_is_small() -> None:
    tracemalloc.start()
    try:
        seen, done = SeenIds(1_000_000), DoneRows(1_000_000)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 48 << 20
    for number in range(20_000):
        assert seen.add(f"id-{number}")
        assert done.add(number + 1, f"id-{number}", is_success=True)
    assert not seen.add("id-77")
    assert not done.add(78, "again", is_success=True)
    assert 78 in done
    assert done.is_of(78, "id-77")
    assert not done.is_of(78, "id-78")
    assert 999_999 not in done
    assert not done.add(1_000_001, "beyond", is_success=True)


def test_a_full_set_of_ids_still_tells_them_apart() -> None:
    seen = SeenIds(3)
    assert [seen.add(name) for name in ("a", "b", "c", "a", "b")] == [
        True,
        True,
        True,
        False,
        False,
    ]
