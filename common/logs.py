"""Logs: events with fields, one line each, on stderr.

    log = get_logger(__name__)
    log.info("worker.registered", worker_id="w1", revision=revision)

An event is a name, not a sentence. Every line carries service, instance and, inside a call, the trace id. Values come
from anywhere (prompts, peers, files), so they are bounded and escaped: one event is one line, whatever is in it.

A JSON line has `ts`, `level`, `event`, `logger`, `service`, `instance`, then `trace_id` and `span_id` inside a
call, then the fields at the same level; a field that has one of these names gets a trailing underscore.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO, final

from opentelemetry.trace import get_current_span

from common.telemetry.settings import TelemetrySettings

__all__ = [
    "VALUE_CHARS_MAX",
    "EventLogger",
    "JsonFormatter",
    "PrettyFormatter",
    "escape",
    "get_logger",
    "setup_logs",
]

VALUE_CHARS_MAX: Final = 2048
"""Longest text value in a line, characters; the rest is cut and counted."""

_STACK_CHARS_MAX: Final = 16_384
_ITEMS_MAX: Final = 64
_DEPTH_MAX: Final = 4
_INT_MAX: Final = 2**63 - 1  # larger ones are text, as most readers of JSON would round them
_FIELDS: Final = "lepton_fields"
_OWN_ROOTS: Final = (
    "common",
    "gateway",
    "router",
    "worker",
    "agent",
    "cli",
    "loadtest",
    "__main__",
)
_RESERVED: Final = frozenset(
    {"ts", "level", "event", "logger", "service", "instance", "trace_id", "span_id", "exception"}
)

_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


@final
class EventLogger:
    """Writes events of one module. Cheap when the level is off; never raises because of a value."""

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, event: str, **fields: object) -> None:
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._log(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """An error with the stack of the exception that is being handled."""
        self._log(logging.ERROR, event, fields, exc_info=True)

    def _log(
        self, level: int, event: str, fields: dict[str, object], *, exc_info: bool = False
    ) -> None:
        logger = self._logger
        if not logger.isEnabledFor(level):
            return
        # `Logger.log` would look for the line of code that wrote it: that takes long, and nobody shows it.
        error = sys.exc_info() if exc_info else None
        record = logging.LogRecord(logger.name, level, "", 0, event, (), error)
        record.__dict__[_FIELDS] = fields
        logger.handle(record)


def get_logger(name: str) -> EventLogger:
    """The event logger of a module; `name` is its `__name__`."""
    return EventLogger(logging.getLogger(name))


def setup_logs(
    settings: TelemetrySettings,
    *,
    service: str,
    instance_id: str,
    stream: TextIO | None = None,
) -> None:
    """Sends all logs of this process to `stream` (stderr). Called once at start; a second call replaces the first."""
    out = stream or sys.stderr
    pretty = settings.log_format == "pretty" or (settings.log_format == "auto" and out.isatty())
    formatter: logging.Formatter = (
        PrettyFormatter(color=out.isatty())
        if pretty
        else JsonFormatter(service=service, instance_id=instance_id)
    )
    handler = _LeptonHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, _LeptonHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in _OWN_ROOTS:
        logging.getLogger(name).setLevel(settings.log_level.upper())
    logging.captureWarnings(capture=True)


@final
class _LeptonHandler(logging.StreamHandler[TextIO]):
    """Marks the handler that `setup_logs` may replace."""


@final
class JsonFormatter(logging.Formatter):
    """One JSON object a line, pure ASCII: no control character of a value reaches the terminal or a log shipper."""

    def __init__(self, *, service: str, instance_id: str) -> None:
        super().__init__()
        self._service = service
        self._instance_id = instance_id

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "event": _text(_message_of(record), VALUE_CHARS_MAX),
            "logger": record.name,
            "service": self._service,
            "instance": self._instance_id,
        }
        span = get_current_span().get_span_context()
        if span.is_valid:
            line["trace_id"] = f"{span.trace_id:032x}"
            line["span_id"] = f"{span.span_id:016x}"
        for key, value in _fields_of(record).items():
            line[f"{key}_" if key in _RESERVED else key] = _plain(value, _DEPTH_MAX)
        if record.exc_info:
            line["exception"] = _stack_of(record)
        return _encode(line)


@final
class PrettyFormatter(logging.Formatter):
    """`12:30:01.123 info  worker.registered worker_id=w1`; a stack trace follows on lines of its own."""

    _COLORS: Final = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "31"}

    def __init__(self, *, color: bool) -> None:
        super().__init__()
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
        level = record.levelname.lower()
        parts = [
            self._paint(at, "2"),
            self._paint(f"{level:<7}", self._COLORS.get(level, "0")),
            escape(_text(_message_of(record), VALUE_CHARS_MAX)),
        ]
        for key, value in _fields_of(record).items():
            parts.append(f"{self._paint(escape(key) + '=', '2')}{_readable(value)}")
        span = get_current_span().get_span_context()
        if span.is_valid:
            parts.append(self._paint(f"trace_id={span.trace_id:032x}", "2"))
        line = " ".join(parts)
        if record.exc_info:
            line += "\n" + "\n".join(
                f"    {escape(stack_line)}" for stack_line in _stack_of(record).splitlines()
            )
        return line

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._color else text


def _fields_of(record: logging.LogRecord) -> Mapping[str, object]:
    fields = getattr(record, _FIELDS, None)
    return fields if isinstance(fields, dict) else {}


def _message_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # a library's broken format string must not lose the line
        return str(record.msg)


def _stack_of(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    stack = "".join(traceback.format_exception(record.exc_info[1]))
    # The end tells what was raised and where: keep that side.
    return stack if len(stack) <= _STACK_CHARS_MAX else "…" + stack[-_STACK_CHARS_MAX:]


def _plain(value: object, depth: int) -> Any:
    """`value` as bounded JSON data."""
    if isinstance(value, str):
        return _text(value, VALUE_CHARS_MAX)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -_INT_MAX <= value <= _INT_MAX:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth and isinstance(value, Mapping):
        items = list(value.items())[:_ITEMS_MAX]
        return {_text(_str(key), 256): _plain(item, depth - 1) for key, item in items}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth - 1) for item in list(value)[:_ITEMS_MAX]]
    return _text(_str(value), VALUE_CHARS_MAX)


def _readable(value: object) -> str:
    """`value` for the pretty format: bare where that is unambiguous, quoted JSON elsewhere."""
    plain = _plain(value, _DEPTH_MAX)
    if isinstance(plain, str):
        bare = plain.isprintable() and plain and not any(c in plain for c in ' "=')
        return plain if bare else escape(json.dumps(plain, ensure_ascii=False))
    return escape(json.dumps(plain, ensure_ascii=False, separators=(",", ":")))


def _str(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__} that cannot be shown>"


def _text(value: str, chars_max: int) -> str:
    if len(value) <= chars_max:
        return value
    return f"{value[:chars_max]}… (+{len(value) - chars_max})"


def escape(text: str) -> str:
    """Everything that is not printable as an escape, so that a value cannot end a line or move the cursor."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
