"""Wherever the output of a batch is cut off, the next run goes on so that every row is there once."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from cli.batch.output import OutputFile
from cli.batch.result import RowResult, read_result
from tests.support.manual_clock import ManualClock

ROWS = st.lists(
    st.builds(
        lambda text, status: (text, status),
        st.text(max_size=12),
        st.sampled_from([200, 400, None]),
    ),
    min_size=1,
    max_size=8,
)


def _result(line: int, text: str, status: int | None) -> RowResult:
    if status is None:
        return RowResult(line=line, custom_id=text, code="invalid_json", message=text)
    return RowResult(line=line, custom_id=text, status=status, body=b'{"a":"\\n"}')


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, data=st.data())
def test_cut_anywhere_and_go_on(rows: list[tuple[str, int | None]], data: st.DataObject) -> None:
    results = {line: _result(line, *row) for line, row in enumerate(rows, 1)}
    order = data.draw(st.permutations(sorted(results)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.jsonl"
        with OutputFile(path, ManualClock()) as output:
            output.read_done(len(rows))
            for line in order:
                output.append(results[line])
        whole = path.read_bytes()
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
        drops = data.draw(st.booleans())
        with OutputFile(path, ManualClock()) as output:
            if drops:
                output.drop_failed()
            done = output.read_done(len(rows))
            for line in order:
                if line not in done:
                    output.append(results[line])
            output.sort()
        written = [read_result(line + b"\n") for line in path.read_bytes().splitlines()]
        assert [row.line for row in written if row] == sorted(results)
        assert [row.custom_id for row in written if row] == [rows[i][0] for i in range(len(rows))]
