"""`python -m loadtest`: `lepton bench` on a cluster of its own, started before and gone afterwards.

Every option that is not listed here is one of `lepton bench`; it runs in a process of its own, so that its work does
not count as the cluster's. Exit codes are its own, too.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from cli.outcome import INTERRUPTED, exit_code, show_error
from common.errors import LeptonError
from loadtest.spawn import own_cluster

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the load; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest", description=__doc__, allow_abbrev=False
    )
    add = parser.add_argument
    add("--workers", type=int, default=2, help="workers for each model")
    add("--model-dir", action="append", default=[], help="DIR or NAME=DIR; default: the demo model")
    wish, options = parser.parse_known_args(arguments)
    try:
        return asyncio.run(_run(wish.workers, wish.model_dir, options))
    except LeptonError as error:
        show_error(error)
        return exit_code(error)
    except KeyboardInterrupt:
        return INTERRUPTED


async def _run(workers: int, models: Sequence[str], options: Sequence[str]) -> int:
    with TemporaryDirectory(prefix="lepton-loadtest-") as folder:
        async with own_cluster(Path(folder), models=models, workers=workers) as address:
            client = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "cli.main", "bench", "--url", address, *options)
            )
            return await client.wait()


if __name__ == "__main__":
    sys.exit(main())
