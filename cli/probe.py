"""What is installed, asked in a process of its own: the command line loads neither worker nor runtime, and a broken
library may take its process along.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Final

from cli.findings import Check

__all__ = ["ask"]

_PROBE_S_MAX: Final = 30.0


def ask(check: Check, program: str) -> Any:
    """What the last line of a Python program says, as JSON.

    Raises `subprocess.CalledProcessError` with its stderr, `subprocess.TimeoutExpired` after 30 seconds, OSError when
    it cannot be started, ValueError or IndexError when it says something else.
    """
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=_PROBE_S_MAX,
        env=dict(check.env),
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])
