"""`python -m loadtest.lookup --model DIR`: decoding with prompt lookup beside decoding without, in turns in one run.

Few streams, answers that repeat their prompts and answers that do not (`loadtest.lookup.texts`); medians over rounds.
Wants our own operators: others verify nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from rich.console import Console

from cli.bench.machine import machine_facts
from loadtest.engines.lepton import LeptonEngine
from loadtest.lookup.measure import Figure, measure
from loadtest.lookup.texts import KINDS, Text, make_texts
from loadtest.page import replace_part
from loadtest.table import Table
from worker.engine.config import EngineConfig

__all__ = ["main"]

VOCAB_SIZE = 300
"""Texts use ids below it, which every model has."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, and writes what it was told to write; returns the exit code."""
    wish = _parser().parse_args(arguments)

    def make(kind: str, num: int, number: int) -> list[Text]:
        return make_texts(
            kind, num, prompt_tokens=wish.prompt_tokens, tokens=wish.tokens, vocab_size=VOCAB_SIZE, seed=number
        )  # fmt: skip

    with Console(stderr=True).status("loading") as status:
        engines = {
            is_on: LeptonEngine(
                wish.model,
                threads=wish.threads,
                rows_max=max(wish.streams),
                context_max=wish.prompt_tokens + wish.tokens,
                lookup_tokens_max=EngineConfig().lookup_tokens_max if is_on else 0,
            )
            for is_on in (False, True)
        }
        if not engines[True].runner.layout.num_drafted:
            print("error: nothing verifies drafts here; see worker.kernels", file=sys.stderr)
            return 2
        figures = measure(
            engines,
            make,
            kinds=KINDS,
            streams=wish.streams,
            rounds=wish.rounds,
            progress=status.update,
        )
    for engine in engines.values():
        engine.close()
    facts = {**machine_facts(), "model": wish.model.resolve().name, "threads": str(wish.threads),
             "prompt": f"{wish.prompt_tokens} tokens", "answer": f"{wish.tokens} tokens"}  # fmt: skip
    if wish.write:
        said = "; ".join(f"{name}: {value}" for name, value in facts.items())
        replace_part(wish.write, "lookup", f"{said}.\n\n{_table(figures).markdown()}")
    if wish.json:
        json.dump({"facts": facts, "figures": [asdict(one) for one in figures]}, sys.stdout, indent=1)  # fmt: skip
    else:
        Console().print(_table(figures).rich())
    return 0


def _table(figures: list[Figure]) -> Table:
    rows = []
    for kind, streams in dict.fromkeys((one.kind, one.streams) for one in figures):
        found = [one for one in figures if (one.kind, one.streams) == (kind, streams)]
        gains = [one.gain for one in found]
        drafted = sum(one.num_drafted for one in found)
        stood = (
            f"{100 * sum(one.num_accepted for one in found) / drafted:.0f} %" if drafted else "–"
        )
        rows.append(
            [
                kind,
                str(streams),
                f"{median(one.off for one in found):.0f}",
                f"{median(one.on for one in found):.0f}",
                f"{median(gains):.2f} ({min(gains):.2f}–{max(gains):.2f})",
                f"{drafted / len(found):.0f}",
                stood,
                f"{median(one.off_itl_ms_p99 for one in found):.2f}",
                f"{median(one.on_itl_ms_p99 for one in found):.2f}",
            ]
        )
    return Table(
        title="Tokens per second without and with prompt lookup",
        head=("answer", "streams", "off", "on", "gain (least–most)", "proposed", "stood", "ITL p99 off, ms", "on"),
        rows=rows,
    )  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.lookup", description=__doc__)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="model folder")
    add("--streams", type=_numbers, default=[1, 2, 4], help="1,2,4 …")
    add("--prompt-tokens", type=int, default=256, help="of each stream")
    add("--tokens", type=int, default=192, help="decoded by each stream")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), help="compute threads")
    add("--rounds", type=int, default=3, help="after one that warms up")
    add("--json", action="store_true", help="JSON on stdout")
    add("--write", type=Path, help="put the table into this page, between its markers")
    return parser


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
