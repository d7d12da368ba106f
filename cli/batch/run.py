"""A whole batch: rows from the input, so many at once to the cluster, results into the output."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, final

from cli.batch.asking import RowAsker
from cli.batch.known import DoneRows, SeenIds
from cli.batch.output import OutputFile
from cli.batch.result import RowResult
from cli.batch.row import BatchRow, RowError, read_row
from cli.batch.source import Size, measure, read_lines
from cli.http.base_url import BaseUrl
from cli.http.connection import HttpConnection
from common.clock import Clock
from common.errors import Conflict, Reason

__all__ = ["Batch", "BatchTally", "Progress"]

_KINDS_MAX: Final = 100
_TURN: Final = 1000
"""After so many rows that need no asking, others get a turn."""


class Progress(Protocol):
    """Watches."""

    def begun(self, rows: int, done: int) -> None:
        """Before the first row."""

    def row_done(self, result: RowResult) -> None:
        """After each."""

    def setback(self, why: str) -> None:
        """A row is tried again."""


@dataclass(slots=True, kw_only=True)
class BatchTally:
    """What came of a run."""

    rows: int = 0
    """In the input."""
    done_before: int = 0
    """Of these, rows that earlier runs had done; they were not asked again."""
    succeeded: int = 0
    """Rows whose answer is in the output, those of earlier runs included."""
    failed: int = 0
    """Rows whose error is, likewise."""
    retries: int = 0
    completion_tokens: int = 0
    """As the server counted them in this run."""
    took_s: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    """Of this run, by kind."""

    @property
    def is_complete(self) -> bool:
        return self.succeeded + self.failed == self.rows

    @property
    def all_succeeded(self) -> bool:
        return self.succeeded == self.rows

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "rows": self.rows,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "left": self.rows - self.succeeded - self.failed,
            "done_before": self.done_before,
            "retries": self.retries,
            "completion_tokens": self.completion_tokens,
            "took_s": round(self.took_s, 3),
            "failures": dict(self.failures),
        }


@final
class Batch:
    """One run. `tally` is right at every moment, also after an error."""

    def __init__(
        self,
        source: Path,
        output: OutputFile,
        base: BaseUrl,
        asker: RowAsker,
        clock: Clock,
        progress: Progress,
        *,
        concurrency: int,
    ) -> None:
        self._source = source
        self._output = output
        self._base = base
        self._asker = asker
        self._clock = clock
        self._progress = progress
        self._concurrency = concurrency
        self.tally = BatchTally()

    async def run(self) -> None:
        """Until every row is done.

        Raises `Conflict` for an output of another input, `Unavailable` when the cluster is gone, `OSError` for a disk
        that is full; cancellation is safe. What is done stays done, and the next run goes on.
        """
        began = self._clock.now()
        tally = self.tally
        size = measure(self._source)
        done = self._output.read_done(size.last)
        tally.rows, tally.done_before = size.rows, done.num_rows
        tally.failed, tally.succeeded = done.num_failed, done.num_rows - done.num_failed
        self._progress.begun(size.rows, done.num_rows)
        rows = self._rows(size, done)
        left = size.rows - done.num_rows
        try:
            async with asyncio.TaskGroup() as tasks:
                # One at least: it sees whether the output is of this input.
                for _ in range(max(1, min(self._concurrency, left))):
                    tasks.create_task(self._slot(rows))
        except ExceptionGroup as group:
            raise _first(group) from None
        finally:
            tally.retries = self._asker.num_retries
            tally.took_s = self._clock.now() - began

    async def _slot(self, rows: Iterator[BatchRow | RowResult | None]) -> None:
        """Asks one row after the other on a connection of its own."""
        async with HttpConnection(self._base) as connection:
            for row in rows:
                if isinstance(row, BatchRow):
                    self._take(await self._asker.ask(connection, row))
                elif row is not None:
                    self._take(row)
                else:
                    await self._clock.sleep(0)

    def _take(self, result: RowResult) -> None:
        self._output.append(result)
        tally = self.tally
        if result.is_success:
            tally.succeeded += 1
        else:
            tally.failed += 1
            kind = result.failure
            is_known = kind in tally.failures or len(tally.failures) < _KINDS_MAX
            tally.failures[kind if is_known else "others"] += 1
        tally.completion_tokens += result.completion_tokens
        self._progress.row_done(result)

    def _rows(self, size: Size, done: DoneRows) -> Iterator[BatchRow | RowResult | None]:
        """Rows to ask, and results of those that are wrong; None now and then, when neither came for long."""
        seen = SeenIds(size.rows)
        for count, line in enumerate(read_lines(self._source)):
            if count % _TURN == _TURN - 1:
                yield None
            row: BatchRow | RowError
            try:
                row = read_row(line)
                if not seen.add(row.custom_id):
                    message = "an earlier row has the same custom_id"
                    row = RowError("duplicate_custom_id", message, custom_id=row.custom_id)
            except RowError as error:
                row = error
            if line.number in done:
                if not done.is_of(line.number, row.custom_id):
                    raise Conflict(
                        f"the output belongs to another input: its line {line.number} had another custom_id",
                        reason=Reason.OUTPUT_EXISTS,
                    )
            elif isinstance(row, BatchRow):
                yield row
            else:
                yield RowResult(
                    line=line.number,
                    custom_id=row.custom_id,
                    code=row.code,
                    message=row.message,
                )


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """One of the errors: the slots all met the same."""
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
