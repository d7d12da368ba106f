"""`lepton chaos`: break things on purpose, and see what was promised about it."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.help import Command, Group
from cli.options import JsonOption, StateDirOption
from cli.outcome import FAILED, interruptible, reported

if TYPE_CHECKING:
    from chaos.outcome import Outcome
    from chaos.scenario import Scenario

__all__ = ["chaos"]

chaos = typer.Typer(
    name="chaos",
    cls=Group,
    help="Break things on purpose, and see what was promised about it.",
    no_args_is_help=True,
)


@chaos.command("kill-worker", cls=Command)
def kill_worker(
    *,
    streams: Annotated[int, typer.Option("--streams", "-s", min=1, max=512)] = 40,
    kills: Annotated[int, typer.Option("--kills", "-k", min=1, max=100)] = 1,
    every: Annotated[
        float, typer.Option("--every", min=0.5, help="Seconds from one kill to the next.")
    ] = 4.0,
    tokens: Annotated[
        int, typer.Option("--tokens", min=8, help="Length of each answer, tokens.")
    ] = 200,
    model: Annotated[
        str, typer.Option("--model", "-m", show_default="the only one", help="Which model to ask.")
    ] = "",
    seed: Annotated[int | None, typer.Option("--seed", help="Decides who is killed.")] = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Kill a busy worker of the cluster that `lepton up` runs here, and watch its streams go on.

    Every token is compared with an uninterrupted answer to the same request. Ends with 1 when a promise was broken.
    """
    with reported(as_json=as_json), interruptible():
        from chaos.live import LiveWish, kill_workers
        from cli.chaos_view import LiveView, ledger
        from cli.screen import out, write_json
        from cli.target import find_state_dir
        from common.clock import SystemClock

        wish = LiveWish(
            streams=streams,
            kills=kills,
            every_s=every,
            max_tokens=tokens,
            model=model,
            seed=seed if seed is not None else random.randrange(10_000),
        )
        with LiveView(out(), quiet=as_json) as view:
            outcome = asyncio.run(
                kill_workers(find_state_dir(state_dir), wish, SystemClock(), view)
            )
        if as_json:
            write_json(outcome.as_json())
        else:
            out().print(ledger(outcome))
        _end(outcome.is_right)


@chaos.command("list", cls=Command)
def list_(*, as_json: JsonOption = False) -> None:
    """Show the scenarios of `lepton chaos run`."""
    with reported(as_json=as_json):
        from chaos.scenario import load_scenario, names
        from cli.chaos_view import scenarios
        from cli.screen import out, write_json

        found = [load_scenario(name) for name in names()]
        if as_json:
            write_json([one.model_dump(mode="json") for one in found])
        else:
            out().print(scenarios(found))


@chaos.command("run", cls=Command)
def run(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]…", show_default="all", help="See `lepton chaos list`."),
    ] = None,
    *,
    seed: Annotated[int, typer.Option("--seed", help="Decides who is hit, and when.")] = 1,
    times: Annotated[
        int | None, typer.Option("--times", min=1, help="How often each fault is done.")
    ] = None,
    expect_fail: Annotated[
        bool,
        typer.Option("--expect-fail", help="Protection switched off: the run must then fail."),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Write the outcomes as JSON.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run scenarios, each on a cluster of its own. Ends with 1 when one is not as it should be."""
    with reported(as_json=as_json), interruptible():
        import json

        from chaos.scenario import load_scenario
        from chaos.scenario import names as all_names

        chosen = [load_scenario(name) for name in names or all_names()]
        if expect_fail:
            chosen = [one for one in chosen if names or one.control]
        outcomes = [
            _run_one(one, seed=seed, times=times, control=expect_fail, quiet=as_json)
            for one in chosen
        ]
        _show(outcomes, as_json=as_json)
        if json_file is not None:
            data = [outcome.as_json() for outcome in outcomes]
            json_file.write_text(json.dumps(data, indent=1) + "\n", "utf-8")
        _end(all(outcome.is_right for outcome in outcomes))


@chaos.command("random", cls=Command)
def random_(
    *,
    seed: Annotated[
        int | None, typer.Option("--seed", show_default="drawn", help="The schedule.")
    ] = None,
    faults: Annotated[int, typer.Option("--faults", "-n", min=1, help="How many.")] = 20,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Instead: each two kinds of faults at once, in turn.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Do faults by chance, on a cluster of its own. Prints the seed; the same seed does the same again."""
    with reported(as_json=as_json), interruptible():
        from chaos.schedule import drawn
        from chaos.schedule import pairs as all_pairs
        from cli.screen import out

        chosen = seed if seed is not None else random.randrange(1_000_000)
        scenarios = tuple(all_pairs()) if pairs else (drawn(chosen, faults),)
        outcomes = [
            _run_one(one, seed=chosen, times=None, control=False, quiet=as_json)
            for one in scenarios
        ]
        _show(outcomes, as_json=as_json)
        if not as_json:
            out().print(f"seed {chosen}", style="dim")
        _end(all(outcome.is_right for outcome in outcomes))


def _run_one(
    scenario: Scenario, *, seed: int, times: int | None, control: bool, quiet: bool
) -> Outcome:
    from chaos.run import run_scenario
    from cli.screen import err
    from common.clock import SystemClock

    if times:
        faults = [fault.model_copy(update={"times": times}) for fault in scenario.fault]
        scenario = scenario.model_copy(update={"fault": tuple(faults)})
    console = err()
    if not quiet:
        console.print(f"[bold]{scenario.name}[/] {scenario.title}", highlight=False)

    def tell(line: str) -> None:
        if not quiet:
            console.print(f"  {line}", style="dim", markup=False)

    outcome = asyncio.run(
        run_scenario(scenario, clock=SystemClock(), seed=seed, control=control, tell=tell)
    )
    tell(f"{outcome.verdict} after {outcome.took_s:.0f} s {'; '.join(outcome.why)}")
    return outcome


def _show(outcomes: list[Outcome], *, as_json: bool) -> None:
    from cli.chaos_view import outcomes_table
    from cli.screen import out, write_json

    if as_json:
        write_json([outcome.as_json() for outcome in outcomes])
    else:
        out().print(outcomes_table(outcomes))


def _end(is_right: bool) -> None:  # noqa: FBT001 - private
    if not is_right:
        raise typer.Exit(FAILED)
