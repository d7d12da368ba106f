"""`lepton doctor`: is everything here that is needed?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer

from cli.options import JsonOption, StateDirOption
from cli.outcome import FAILED, reported
from cli.screen import marks, out, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from cli.findings import Finding

__all__ = ["doctor", "findings_json", "findings_table"]


def doctor(*, state_dir: StateDirOption = None, as_json: JsonOption = False) -> None:
    """Look at this machine: is all here that is needed?

    Versions, packages, execution providers, etcd, ports. Ends with 1 when something will not work.
    """
    with reported(as_json=as_json):
        from cli.checks import run_checks
        from cli.findings import Check, Verdict
        from cli.target import find_state_dir

        findings = run_checks(Check(env=dict(os.environ), state=find_state_dir(state_dir)))
        if as_json:
            write_json(findings_json(findings))
        else:
            out().print(findings_table(findings))
        if any(one.verdict is Verdict.FAIL for one in findings):
            raise typer.Exit(FAILED)


def findings_json(findings: Sequence[Finding]) -> dict[str, object]:
    """As JSON data."""
    from cli.findings import Verdict

    return {
        "ok": all(one.verdict is not Verdict.FAIL for one in findings),
        "checks": [
            {
                "name": one.name,
                "verdict": one.verdict.value,
                "detail": one.detail,
                "advice": one.advice,
            }
            for one in findings
        ],
    }


def findings_table(findings: Sequence[Finding]) -> Table:
    """One line for each check, and below it what to do."""
    from rich.table import Table
    from rich.text import Text

    from cli.findings import Verdict

    done, failed, _ = marks(out())
    shown = {
        Verdict.OK: (done, "green"),
        Verdict.WARN: ("!", "yellow"),
        Verdict.FAIL: (failed, "red"),
    }
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for one in findings:
        mark, style = shown[one.verdict]
        table.add_row(Text(mark, style=style), one.name, Text(one.detail))
        if one.advice:
            table.add_row("", "", Text(one.advice, style=style))
    return table
