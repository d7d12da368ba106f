"""`python -m tests.conformance.run`: the table client × case. Exit code 1 when a client fails a case."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from common.clock import SystemClock
from tests.conformance.case import Case
from tests.conformance.clients import Client, load_clients
from tests.conformance.suite import Verdict, load_cases, run_suite

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    clients = load_clients()
    cases = {case.name: case for case in load_cases()}
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument("--client", action="append", choices=[*clients], help="only this one")
    parser.add_argument(
        "--case", action="append", choices=[*cases], metavar="NAME", help="only this one"
    )
    parser.add_argument("--json", action="store_true", help="a line per verdict")
    options = parser.parse_args(argv)
    wanted = [clients[name] for name in options.client or clients]
    here = [client for client in wanted if not client.missing]
    for client in wanted:
        if client.missing:
            sys.stderr.write(f"{client.name}: skipped, {', '.join(client.missing)} is missing\n")
    chosen = [cases[name] for name in options.case or cases]
    verdicts = asyncio.run(_run(here, chosen, as_json=options.json))
    if not options.json:
        _print(here, verdicts)
    is_ci = os.environ.get("CI", "").lower() == "true"
    failed = any(not v.passed for v in verdicts) or (is_ci and len(here) < len(wanted))
    return int(failed)


async def _run(clients: list[Client], cases: list[Case], *, as_json: bool) -> list[Verdict]:
    verdicts = []

    def on_verdict(verdict: Verdict) -> None:
        verdicts.append(verdict)
        if as_json:
            told = {
                "client": verdict.client,
                "case": verdict.case,
                "faults": verdict.faults,
                "took_s": round(verdict.took_s, 3),
            }
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()
        elif not verdict.passed:
            sys.stderr.write(f"{verdict.client} {verdict.case}:\n")
            sys.stderr.writelines(f"  {fault}\n" for fault in verdict.faults)

    await run_suite(clients, cases, SystemClock(), on_verdict=on_verdict)
    return verdicts


def _print(clients: list[Client], verdicts: list[Verdict]) -> None:
    table = Table("case", *(client.name for client in clients))
    by_case: dict[str, dict[str, Verdict]] = {}
    for verdict in verdicts:
        by_case.setdefault(verdict.case, {})[verdict.client] = verdict
    for case, row in sorted(by_case.items()):
        table.add_row(case, *("ok" if row[c.name].passed else "[red]FAILS" for c in clients))
    passed = [sum(v.passed for v in verdicts if v.client == c.name) for c in clients]
    table.add_section()
    table.add_row(f"of {len(by_case)}", *map(str, passed))
    Console().print(table)


if __name__ == "__main__":
    raise SystemExit(main())
