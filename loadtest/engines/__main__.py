"""`python -m loadtest.engines --model DIR`: how fast the engine is, alone or beside others.

Decode: streams of a prompt each, greedy, tokens per second of all streams while all of them decode. Prefill: prompt
tokens per second to the first token. Medians over rounds; with `--beside` the engines take turns within each round.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from loadtest.engines.contest import Contestant, Measure, Plan, run_contest
from loadtest.engines.registry import ENGINES
from loadtest.engines.report import figures_table, to_json

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    wish = _parser().parse_args(arguments)
    ours = [
        Contestant(label=f"{label}, {mode}", engine=engine, model=model)
        for label, model in wish.model
        for mode, engine in (("fast", "lepton-fast"), ("exact", "lepton"))
        if wish.mode in (mode, "both")
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
    talk = Console(stderr=True)
    with talk.status("starting") as status:
        figures, facts = run_contest([*ours, *wish.beside], plan, status.update)
    if wish.json:
        json.dump(to_json(figures, facts), sys.stdout, indent=2)
    else:
        console = Console()
        console.print(
            figures_table(figures, *([one.label for one in side] for side in (ours, wish.beside)))
        )
        for label, fact in facts.items():
            console.print(
                f"{label}: {fact['name']} ({fact['version']}), {fact['precision']}, "
                f"{fact['threads']} threads, {fact['rss'] / 1e6:.0f} MB resident",
                highlight=False,
            )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.engines", description=__doc__)
    add = parser.add_argument
    add(
        "--model",
        type=_labelled,
        action="append",
        required=True,
        help="DIR or LABEL=DIR; repeatable",
    )
    add("--mode", choices=("exact", "fast", "both"), default="both", help="of our engine")
    add("--beside", type=_contestant, action="append", default=[], help="ENGINE=MODEL[@PYTHON]")
    add("--streams", type=_numbers, default=[1, 2, 4, 8, 16, 32], help="1,2,4 …")
    add("--prompts", type=_numbers, default=[128, 1024], help="prompt lengths to prefill")
    add("--prompt-tokens", type=int, default=128, help="prompt of each decoding stream")
    add("--tokens", type=int, default=64, help="decoded by each stream")
    add("--context-max", type=int, default=2048, help="room of each stream, tokens")
    add("--threads", type=int, default=2, help="compute threads of each engine")
    add("--rounds", type=int, default=3, help="after one that warms up")
    add("--json", action="store_true", help="JSON on stdout")
    return parser


def _labelled(text: str) -> tuple[str, Path]:
    label, _, folder = text.rpartition("=")
    return label or "lepton", Path(folder)


def _contestant(text: str) -> Contestant:
    """`ENGINE=MODEL[@PYTHON]`; the label is the engine's name and the model's."""
    engine, _, rest = text.partition("=")
    model, _, python = rest.partition("@")
    if engine not in ENGINES or not model:
        raise argparse.ArgumentTypeError(f"ENGINE=MODEL with an engine of {', '.join(ENGINES)}")
    return Contestant(
        label=f"{engine} {Path(model).name}",
        engine=engine,
        model=Path(model),
        python=Path(python or sys.executable),
    )


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
