"""`python -m loadtest.mismatch DIR`: how often company changes a token, per 10,000 tokens, in the mode `fast`.

Every request is answered alone, then in company of 2, 4, … rows, each position under the same past (see
`loadtest.mismatch.measure` for what is counted). With `--cuts` answers are also cut and go on, as when a worker takes
over from another (`loadtest.mismatch.continued`). The mode `exact` must show 0 everywhere.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.table import Table

from common.errors import BadModel
from loadtest.mismatch.continued import Continued, go_on
from loadtest.mismatch.measure import Mismatches, compare, reference_of
from worker.kernels.library import Kernels
from worker.runtime.model import LoadedModel, load_model

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    wish = _parser().parse_args(arguments)
    talk = Console(stderr=True)
    with talk.status("loading") as status:
        try:
            model = load_model(
                wish.model,
                name="mismatch",
                threads=wish.threads,
                rows_max=max(wish.rows),
                context_max=wish.context_max,
                prefill_int8=True,
                mode=wish.mode,
                kernels=wish.kernels,
            )
        except BadModel as error:
            talk.print(f"error: {error.message} ({error.reason})", highlight=False)
            return 2
        prompts, eos_ids = _prompts(model, wish)
        status.update(f"{len(prompts)} requests alone")
        references = reference_of(model.runner, prompts, tokens=wish.tokens, eos_ids=eos_ids)
        found = []
        for rows in wish.rows:
            status.update(f"{len(prompts)} requests, {rows} at a time")
            found.append(compare(model.runner, references, rows=rows))
        cuts = []
        for cut in wish.cuts:
            status.update(f"{len(prompts)} requests, cut behind {cut} tokens")
            cuts.append(go_on(model.runner, references, cut=cut, eos_ids=eos_ids))
    facts = {
        "fingerprint": model.info.fingerprint,
        "int8_from_rows": getattr(model.runner.forward, "many_from", None),
        "prompts": str(wish.prompts or "random"),
    }
    if wish.json:
        company, continued = [_as_json(one) for one in found], [asdict(one) for one in cuts]
        json.dump({**facts, "company": company, "continued": continued}, sys.stdout, indent=2)
        print()
    else:
        _show(found, cuts, facts)
    return 0


def _prompts(
    model: LoadedModel, wish: argparse.Namespace
) -> tuple[list[tuple[int, ...]], frozenset[int]]:
    """Conversations from the file, answered to their end; else random ids of random length, without end tokens."""
    room = model.info.context_length - wish.tokens
    if wish.prompts is None:
        rng = random.Random(wish.seed)
        sizes = [rng.randint(8, min(wish.prompt_tokens, room)) for _ in range(wish.requests)]
        vocab = model.info.vocab_size
        return [tuple(rng.randrange(10, vocab) for _ in range(size)) for size in sizes], frozenset()
    chats = [json.loads(line)["messages"] for line in wish.prompts.read_text("utf-8").splitlines()]
    encoded = [
        tuple(model.tokenizer.encode_chat([_Turn(**turn) for turn in chat], add_generation_prompt=True))
        for chat in chats
    ]  # fmt: skip
    distinct = [ids for ids in dict.fromkeys(encoded) if len(ids) <= room]
    return distinct[: wish.requests], model.info.eos_ids


@dataclass(frozen=True)
class _Turn:
    """One message of a conversation."""

    role: str
    content: str
    name: str = ""
    tool_calls: tuple[()] = ()
    tool_call_id: str = ""


def _show(found: Sequence[Mismatches], cuts: Sequence[Continued], facts: dict[str, Any]) -> None:
    table = Table(box=None)
    for title in (
        "rows",
        "tokens",
        "mismatches",
        "per 10,000",
        "answers parted",
        "after",
        "lead there",
        "lead",
    ):
        table.add_column(title, justify="right")
    for one in found:
        there = "–" if one.lead_at_mismatch is None else f"{one.lead_at_mismatch:.3f}"
        table.add_row(
            str(one.rows),
            str(one.positions),
            str(one.mismatches),
            f"{one.per_10_000:.1f}",
            f"{100 * one.diverged:.1f} %",
            "–" if one.tokens_until is None else f"{one.tokens_until:.0f}",
            there,
            f"{one.lead:.2f}",
        )
    console = Console()
    console.print(table)
    if cuts:
        console.print(_table_of(cuts))
    for name, value in facts.items():
        console.print(f"{name}: {value}", highlight=False)


def _table_of(cuts: Sequence[Continued]) -> Table:
    table = Table(box=None)
    for title in ("cut behind", "answers", "replay mismatches", "per 10,000", "answers parted"):
        table.add_column(title, justify="right")
    for one in cuts:
        table.add_row(
            str(one.cut),
            str(one.requests),
            str(one.replay_mismatches),
            f"{one.replay_per_10_000:.1f}",
            str(one.parted),
        )
    return table


def _as_json(one: Mismatches) -> dict[str, Any]:
    return {
        **asdict(one),
        "per_10_000": one.per_10_000,
        "diverged": one.diverged,
        "tokens_until": one.tokens_until,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.mismatch", description=__doc__)
    add = parser.add_argument
    add("model", type=Path, help="model folder")
    add("--mode", choices=("fast", "exact"), default="fast")
    add(
        "--kernels",
        choices=get_args(Kernels),
        default="portable",
        help="native are exact in any mode",
    )
    add("--rows", type=_numbers, default=[2, 4, 8, 16, 32], help="requests at a time: 2,4 …")
    add("--cuts", type=_numbers, default=[], help="tokens behind which answers are cut: 1,7 …")
    add("--requests", type=int, default=200)
    add("--tokens", type=int, default=64, help="of each answer at most")
    add("--prompts", type=Path, help="JSON lines with `messages`; default: random ids")
    add("--prompt-tokens", type=int, default=128, help="longest random prompt")
    add("--context-max", type=int, default=512, help="room of each row, tokens")
    add("--threads", type=int, default=2, help="compute threads")
    add("--seed", type=int, default=1, help="of the random prompts")
    add("--json", action="store_true", help="JSON on stdout")
    return parser


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
