"""Settings that all suites share."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

# A shared machine stalls now and then, which says nothing about the code: no deadline per example, and in CI the same
# examples every time.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

# What a shell starts in the background ignores Ctrl-C, and hands that on: the commands under test would not hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
