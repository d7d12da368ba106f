"""`python -m router` and the command `lepton-router`."""

from __future__ import annotations

import sys

from common.process import run_process
from router.process import PROCESS

__all__ = ["main"]


def main() -> int:
    """Runs one router; the exit codes are those of `common.process`."""
    return run_process(PROCESS)


if __name__ == "__main__":
    sys.exit(main())
