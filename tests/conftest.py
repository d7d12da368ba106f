"""Settings that all suites share."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# A shared machine stalls now and then, which says nothing about the code: no deadline per example, and in CI the same
# examples every time.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")
