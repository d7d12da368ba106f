"""`python -m worker` and the command `lepton-worker`."""

from __future__ import annotations

import sys

from common.process import run_process
from worker.app import PROCESS

__all__ = ["main"]


def main() -> int:
    """Runs one worker; the exit codes are those of `common.process`."""
    return run_process(PROCESS)


if __name__ == "__main__":
    sys.exit(main())
