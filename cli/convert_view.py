"""How `lepton convert` and `lepton quantize` show what they do: stages on stderr, the result on stdout."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, final

from cli.screen import cell, err, marks, out

if TYPE_CHECKING:
    from rich.table import Table

    from common.clock import Clock
    from convert.result import Result

__all__ = ["StageView", "accuracy_table", "show_result"]


@final
class StageView:
    """Implements `convert.progress.Progress`: a clock that runs on a terminal, a line when a stage is done."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._done, self._failed, _ = marks(err())

    @contextlib.contextmanager
    def stage(self, what: str) -> Iterator[None]:
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        began = self._clock.now()
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", style="dim"),
            TimeElapsedColumn(),
        )
        mark, style = self._failed, "red"
        try:
            with Progress(
                *columns, console=err(), transient=True, disable=not err().is_terminal
            ) as bar:
                bar.add_task(what, total=None)
                yield
            mark, style = self._done, "green"
        finally:
            took = self._clock.now() - began
            err().print(f"[{style}]{mark}[/] {what} [dim]{took:.1f} s[/]")


def show_result(result: Result) -> None:
    """For people: what it cost, where it lies, what to do with it."""
    if result.accuracy:
        out().print()
        out().print(accuracy_table(result.accuracy))
        out().print()
    facts = result.facts
    out().print(
        cell(
            f"{result.folder}: {facts.storage}, {result.weight_bytes / 1e6:.1f} MB "
            f"(source {result.source_bytes / 1e6:.1f} MB), revision {result.revision[:12]}"
        ),
        soft_wrap=True,
    )
    if result.golden is None:
        err().print(
            "no golden prompt: not one token of the answer was beyond doubt", style="yellow"
        )
    out().print(cell(f"serve it: lepton up --model {result.folder}", "dim"), soft_wrap=True)


def accuracy_table(accuracy: Mapping[str, Mapping[str, Any]]) -> Table:
    """One line for each form of the weights."""
    from rich.table import Table

    from convert.card import FORMS

    first = next(iter(accuracy.values()))
    table = Table(
        box=None,
        pad_edge=False,
        header_style="dim",
        padding=(0, 2, 0, 0),
        title=f"against fp32, {first['num_tokens']} tokens",
        title_style="dim",
        title_justify="left",
    )
    table.add_column("computed with", no_wrap=True)
    for title in ("rms error", "same top-1", "perplexity", "fp32", "ratio"):
        table.add_column(title, justify="right", no_wrap=True)
    for form, cost in accuracy.items():
        table.add_row(
            FORMS[form],
            f"{cost['rms_error']:.4f}",
            f"{cost['top1_agreement']:.2%}",
            f"{cost['perplexity']:.4g}",
            f"{cost['reference_perplexity']:.4g}",
            f"{cost['perplexity_ratio']:.4f}",
        )
    return table
