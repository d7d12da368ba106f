"""Settings that all suites share."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from common.logs import EventLogger

# A shared machine stalls now and then, which says nothing about the code: no deadline per example, and in CI the same
# examples every time.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

# What a shell starts in the background ignores Ctrl-C, and hands that on: the commands under test would not hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A command that is called in this process sets up logs for good, on a stderr that is closed after the test."""
    root = logging.getLogger()
    names = [name for name in root.manager.loggerDict if "." not in name]
    levels = {logger: logger.level for logger in (root, *map(logging.getLogger, names))}
    yield
    root.handlers = [one for one in root.handlers if type(one).__module__ != EventLogger.__module__]
    for logger, level in levels.items():
        logger.setLevel(level)
    logging.captureWarnings(capture=False)
