"""`python -m loadtest`: a closed-loop load on a running cluster, or on one of its own with `--spawn`.

Exit codes as of `lepton`: 0 every request worked, 1 some failed or nobody answers, 2 wrong usage or a refused start.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from cli.bench.command import run_bench
from cli.bench.run import PROMPTS, Load
from cli.outcome import FAILED, INTERRUPTED, exit_code, show_error
from cli.request import GenerateOptions
from cli.target import find_target
from common.errors import LeptonError
from loadtest.spawn import own_cluster

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the load; returns the exit code."""
    wish = _parser().parse_args(arguments)
    try:
        return asyncio.run(_run(wish))
    except LeptonError as error:
        show_error(error)
        return exit_code(error)
    except KeyboardInterrupt:
        return INTERRUPTED


async def _run(wish: argparse.Namespace) -> int:
    options = GenerateOptions(
        model=wish.model, max_tokens=wish.max_tokens, ignore_eos=wish.ignore_eos or None
    )
    loads = [
        Load(
            requests=max(wish.requests, callers),
            concurrency=callers,
            prompts=wish.prompt or PROMPTS,
            options=options,
            timeout_s=wish.timeout,
        )
        for callers in wish.concurrency
    ]
    async with AsyncExitStack() as stack:
        if wish.spawn:
            folder = stack.enter_context(TemporaryDirectory(prefix="lepton-loadtest-"))
            address = await stack.enter_async_context(
                own_cluster(Path(folder), models=wish.model_dir, workers=wish.workers)
            )
        else:
            address = find_target(wish.address, None).address
        failed = await run_bench(address, loads, as_json=wish.json)
    return FAILED if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest", description=__doc__)
    add = parser.add_argument
    add("--address", help="host:port; default: the cluster of `lepton up`, else 127.0.0.1:50051")
    add("--spawn", action="store_true", help="start a cluster for this run alone")
    add("--workers", type=_positive, default=2, help="with --spawn: workers for each model")
    add("--model-dir", action="append", default=[], help="with --spawn: DIR or NAME=DIR")
    add("--concurrency", type=_numbers, default=[1, 4, 8], help="callers at once: 4 or 1,4,8")
    add("--requests", type=_positive, default=50, help="requests for each concurrency")
    add("--max-tokens", type=_positive, default=64, help="tokens of each answer at most")
    add("--ignore-eos", action="store_true", help="make every answer that long")
    add("--prompt", action="append", help="asked in turn; repeatable")
    add("--model", default="", help="model name")
    add("--timeout", type=float, default=120.0, help="deadline of each request, seconds")
    add("--json", action="store_true", help="JSON on stdout")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _numbers(text: str) -> list[int]:
    return [_positive(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
