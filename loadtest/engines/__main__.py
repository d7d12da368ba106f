"""`python -m loadtest.engines --model DIR`: how fast the engine is, alone or beside others.

Decode: streams of a prompt each, greedy, tokens per second of all streams while all of them decode. Prefill: prompt
tokens per second to the first token. Medians over rounds; with `--beside` the engines take turns within each round.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cli.bench.machine import machine_facts
from cli.outcome import INTERRUPTED, exit_code, show_error
from cli.screen import err
from common.errors import LeptonError
from loadtest.engines.contest import Contestant, Plan, run_contest
from loadtest.engines.exactness import Reference
from loadtest.engines.figures import page_part
from loadtest.engines.registry import ENGINES
from loadtest.engines.report import tables
from loadtest.engines.result import Measure, Result
from loadtest.page import replace_part
from worker.runtime.providers.registry import PROVIDERS

__all__ = ["main"]

FILE_WIDTH = 200
"""Columns of tables that go into a file or a pipe."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, and writes what it was told to write; returns the exit code."""
    wish = _parser().parse_args(arguments)
    if not wish.model and not wish.redo:
        _parser().error("--model DIR, or --redo FILE")
    try:
        result = Result.read(wish.redo) if wish.redo else _measure(wish)
    except LeptonError as error:
        show_error(error)
        return exit_code(error)
    except KeyboardInterrupt:
        err().print("interrupted: nothing was written")
        return INTERRUPTED
    if wish.save and not wish.redo:
        result.write(wish.save)
    if wish.write:
        data = wish.redo or wish.save or wish.write.with_name(f"{wish.part}.json")
        if not wish.redo:
            result.write(data)
        replace_part(wish.write, wish.part, page_part(result, wish.write, data))
        err().print(f"written: {wish.write}, its plots beside {data}", style="dim", soft_wrap=True)
    if wish.json:
        json.dump(asdict(result), sys.stdout, indent=1)
    else:
        _print(result)
    return 0


def _measure(wish: argparse.Namespace) -> Result:
    ours = [
        one
        for label, model in wish.model
        for one in (
            Contestant(label=label, engine="lepton", model=model, provider=wish.provider),
            *(
                Contestant(label=f"{label}, {kernels}", engine=f"lepton-{kernels}", model=model)
                for kernels in wish.kernels
            ),
        )
    ]
    plan = Plan(
        measures=(
            *(Measure("decode", streams) for streams in wish.streams),
            *(Measure("prefill", tokens) for tokens in wish.prompts),
        ),
        rounds=wish.rounds,
        threads=wish.threads,
        prompt_tokens=wish.prompt_tokens,
        tokens=wish.tokens,
        context_max=wish.context_max,
    )
    contestants = [*ours, *wish.beside]
    columns = (
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(
            "loading", total=(plan.rounds + 1) * len(plan.measures) * len(contestants)
        )

        def on_progress(text: str) -> None:
            bar.update(task, description=text, advance=1)
            head = text.partition(",")[0]  # what all engines are measured in next
            if not bar.console.is_terminal and head not in said:
                said.add(head)
                bar.console.print(f"{bar.tasks[0].elapsed or 0.0:5.0f} s  {head}", highlight=False)

        said: set[str] = set()
        figures, facts = run_contest(
            contestants,
            plan,
            on_progress,
            Reference.read(wish.reference) if wish.reference else None,
        )
    settings = ("rounds", "threads", "prompt_tokens", "tokens", "context_max")
    return Result(
        title=wish.title,
        ours=tuple(one.label for one in ours),
        others=tuple(one.label for one in wish.beside),
        facts=facts,
        figures=tuple(figures),
        plan={name: getattr(plan, name) for name in settings} | {"bandwidth": wish.bandwidth},
        machine=machine_facts(),
    )


def _print(result: Result) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=FILE_WIDTH)
    for table in tables(result):
        console.print(table.rich())
        console.print()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.engines", description=__doc__)
    add = parser.add_argument
    add("--model", type=_labelled, action="append", default=[], help="[LABEL=]DIR; repeatable")
    add(
        "--kernels",
        type=_kernels,
        default=[],
        help="each model on these, too: portable (ONNX Runtime's operators), avx2, avx_vnni",
    )
    add("--beside", type=_contestant, action="append", default=[], help="ENGINE=MODEL[@PYTHON]")
    add("--reference", type=Path, help="logits of the unquantised model (loadtest.peers.reference)")
    add("--streams", type=_numbers, default=[1, 2, 4, 8, 16, 32], help="1,2,4 …")
    add("--prompts", type=_numbers, default=[128, 1024], help="prompt lengths to prefill")
    add("--prompt-tokens", type=int, default=128, help="prompt of each decoding stream")
    add("--tokens", type=int, default=64, help="decoded by each stream")
    add("--context-max", type=int, default=2048, help="room of each stream, tokens")
    add("--provider", choices=tuple(PROVIDERS), default="", help="where ours computes")
    add(
        "--bandwidth",
        type=float,
        help="of the memory that holds weights and keys, GB/s: shows what share decoding reaches",
    )
    add("--threads", type=int, default=2, help="compute threads of each engine")
    add("--rounds", type=int, default=3, help="after one that warms up")
    add("--json", action="store_true", help="JSON on stdout")
    add("--title", default="Engines", help="what was measured, for the page")
    add("--save", type=Path, help="keep all figures as JSON in this file")
    add("--redo", type=Path, help="measure nothing: tables and plots of figures that were kept")
    add("--write", type=Path, help="put tables and plots into this page, between its markers")
    add("--part", default="engine", help="name of these markers")
    return parser


def _labelled(text: str) -> tuple[str, Path]:
    label, _, folder = text.rpartition("=")
    return label or "Lepton", Path(folder)


def _contestant(text: str) -> Contestant:
    """`ENGINE=MODEL[@PYTHON]`; the label is the engine's name and the model's."""
    engine, _, rest = text.partition("=")
    model, _, python = rest.partition("@")
    if engine not in ENGINES or not model:
        raise argparse.ArgumentTypeError(f"ENGINE=MODEL with an engine of {', '.join(ENGINES)}")
    return Contestant(
        label=f"{engine} {Path(model).stem}",
        engine=engine,
        model=Path(model),
        python=Path(python or sys.executable),
    )


def _kernels(text: str) -> list[str]:
    names = text.split(",")
    if any(f"lepton-{name}" not in ENGINES for name in names):
        known = ", ".join(name.removeprefix("lepton-") for name in ENGINES if "lepton-" in name)
        raise argparse.ArgumentTypeError(f"some of {known}, with commas between them")
    return names


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
