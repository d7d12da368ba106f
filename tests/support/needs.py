"""What a test needs of the machine: where it is missing people skip the test, and CI fails."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

__all__ = ["lacking"]


def lacking(reason: str) -> NoReturn:
    """Ends the test that cannot run here; a CI that skipped it would prove nothing."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason)
    pytest.skip(reason)
