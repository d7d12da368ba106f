"""Runs a program that dies with the process that started it, even when that one is killed with SIGKILL.

Called as `python -I -S lifeline.py <pid of the starter> <program> <arguments…>`. It asks the kernel for SIGKILL on
the death of its parent and becomes the program: same pid, so signals and exit codes need no forwarding. A file of its
own instead of `preexec_fn`, because running Python between fork and exec is not safe in a process with threads
(gRPC has them).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

__all__ = ["main"]

_PR_SET_PDEATHSIG: Final = 1
_EXIT_NOT_FOUND: Final = 127


def main(arguments: list[str]) -> None:
    """Never returns: becomes the program, or exits with 127 and one line when there is none."""
    starter, *argv = arguments
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(starter):
        # It died before we asked; nobody would ever tell us.
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - a list that the agent built
    except OSError as error:
        sys.stderr.write(f"error: cannot run {argv[0]}: {error.strerror}\n")
        raise SystemExit(_EXIT_NOT_FOUND) from None


if __name__ == "__main__":
    main(sys.argv[1:])
