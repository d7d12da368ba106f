"""The line in which a process of Lepton says that it serves: the log event `process.ready`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

__all__ = ["READY_EVENT", "parse_ready"]

READY_EVENT: Final = "process.ready"


def parse_ready(line: str) -> Mapping[str, str] | None:
    """The fields of a `process.ready` log line (JSON), as text; None for any other line."""
    if READY_EVENT not in line:
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or record.get("event") != READY_EVENT:
        return None
    return {key: str(value) for key, value in record.items() if value is not None}
