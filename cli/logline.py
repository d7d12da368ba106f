"""A JSON log line of one of our processes, for people."""

from __future__ import annotations

import json
from typing import Final

from rich.text import Text

from cli.screen import printable

__all__ = ["pretty_log_line"]

_STYLES: Final = {"debug": "dim", "info": "", "warning": "yellow", "error": "red"}
_SILENT: Final = frozenset({"ts", "level", "event", "logger", "service", "instance", "span_id"})


def pretty_log_line(line: str) -> Text:
    """`12:03:11.482 worker.registered worker_id=w1`; a line that is not JSON of ours stays as it is."""
    try:
        record = json.loads(line)
        event = record["event"]
    except (ValueError, TypeError, KeyError):
        return Text(printable(line))
    level = str(record.get("level", "info")).lower()
    text = Text(f"{str(record.get('ts', ''))[11:23]} ", style="dim")
    text.append(printable(str(event)), style=_STYLES.get(level, ""))
    for key, value in record.items():
        if key not in _SILENT:
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            text.append(f" {key}=", style="dim").append(printable(shown))
    return text
