"""One event is one line, whatever stands in it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import use_span

from common.logs import VALUE_CHARS_MAX, JsonFormatter, PrettyFormatter, get_logger, setup_logs
from common.telemetry.settings import TelemetrySettings

Setup = Callable[..., io.StringIO]


@pytest.fixture(name="setup")
def _setup() -> Iterator[Setup]:
    root = logging.getLogger()
    handlers, level_of_root = list(root.handlers), root.level
    levels = {n: logging.getLogger(n).level for n in ("common", "router", "worker", "__main__")}

    def setup(**settings: Any) -> io.StringIO:
        stream = io.StringIO()
        setup_logs(
            TelemetrySettings(**settings),
            service="lepton-worker",
            instance_id="w1",
            stream=stream,
        )
        return stream

    yield setup
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level_of_root)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_what_where_and_who(setup: Setup) -> None:
    stream = setup()
    get_logger("worker.app").info("worker.registered", worker_id="w1", rows=4)
    (line,) = _lines(stream)
    assert line.pop("ts").endswith("+00:00")
    assert line == {
        "level": "info",
        "event": "worker.registered",
        "logger": "worker.app",
        "service": "lepton-worker",
        "instance": "w1",
        "worker_id": "w1",
        "rows": 4,
    }


def test_inside_a_span_a_line_carries_its_ids(setup: Setup) -> None:
    stream = setup()
    span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("call")
    with use_span(span):
        get_logger("router.app").info("call.routed")
    context = span.get_span_context()
    (line,) = _lines(stream)
    assert line["trace_id"] == f"{context.trace_id:032x}"
    assert line["span_id"] == f"{context.span_id:016x}"


def test_our_level_is_set_and_libraries_are_heard_from_warning_on(setup: Setup) -> None:
    stream = setup(log_level="debug")
    get_logger("common.x").debug("ours")
    get_logger("__main__").info("ours.too")
    logging.getLogger("grpc").info("chatter")
    logging.getLogger("grpc").warning("trouble %s", "here")
    assert [line["event"] for line in _lines(stream)] == ["ours", "ours.too", "trouble here"]
    stream = setup(log_level="warning")
    get_logger("common.x").info("quiet")
    assert stream.getvalue() == ""


def test_a_second_setup_replaces_the_first(setup: Setup) -> None:
    first, second = setup(), setup()
    get_logger("common.x").info("once")
    assert (first.getvalue(), len(_lines(second))) == ("", 1)


def test_an_exception_brings_its_stack_in_the_same_line(setup: Setup) -> None:
    stream = setup()
    try:
        raise ValueError("line one\nline two")
    except ValueError:
        get_logger("common.x").exception("it.broke", step=3)
    (line,) = _lines(stream)
    assert (line["level"], line["step"]) == ("error", 3)
    assert "ValueError: line one\nline two" in line["exception"]


def test_a_field_cannot_pretend_to_be_ours(setup: Setup) -> None:
    stream = setup()
    get_logger("common.x").info("e", level="critical", trace_id="f" * 32, service="x")
    (line,) = _lines(stream)
    assert (line["level"], line["service"]) == ("info", "lepton-worker")
    assert (line["level_"], line["trace_id_"], line["service_"]) == ("critical", "f" * 32, "x")


class Unshowable:
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(Unshowable(), id="unshowable"),
        pytest.param(10**5000, id="huge"),
        pytest.param(float("nan"), id="nan"),
        pytest.param(b"\xff", id="bytes"),
        pytest.param({1: {2: [3]}}, id="nested"),
        pytest.param({"k": object()}, id="object"),
        pytest.param("\ud800", id="surrogate"),
    ],
)
def test_no_value_can_break_a_line(value: object, setup: Setup) -> None:
    for log_format in ("json", "pretty"):
        stream = setup(log_format=log_format)
        get_logger("common.x").info("e", value=value)
        assert len(stream.getvalue().splitlines()) == 1


def test_values_are_bounded(setup: Setup) -> None:
    stream = setup()
    circle: list[object] = []
    circle.append(circle)
    get_logger("common.x").info("e", text="x" * 10_000_000, many=list(range(10_000)), circle=circle)
    (line,) = _lines(stream)
    assert line["text"] == "x" * VALUE_CHARS_MAX + f"… (+{10_000_000 - VALUE_CHARS_MAX})"
    assert len(line["many"]) == 64
    assert len(stream.getvalue()) < 10_000


INJECTIONS = st.text(
    alphabet=st.sampled_from('a\r\n\x1b\x00\x07\x7f\x85\x9b\u2028\u2029\u202e=" \\é'), max_size=40
)


@given(event=INJECTIONS, value=INJECTIONS, key=st.from_regex(r"[a-z]{1,8}", fullmatch=True))
def test_text_cannot_end_a_line_or_reach_the_terminal(event: str, value: str, key: str) -> None:
    record = logging.LogRecord("common.x", logging.INFO, "", 0, event, None, None)
    record.lepton_fields = {key: value, "nested": {value: [value]}}
    as_json = JsonFormatter(service="s", instance_id="i").format(record)
    assert as_json.isascii()
    assert as_json.isprintable()
    assert json.loads(as_json)["nested"] == {value: [value]}
    assert PrettyFormatter(color=False).format(record).isprintable()


def test_pretty_is_for_eyes(setup: Setup) -> None:
    stream = setup(log_format="pretty")
    get_logger("common.x").warning("it.happened", plain="w1", spaced="a b", empty="", n=3, ok=True)
    text = stream.getvalue().split(" ", 1)[1]
    assert text.split() == [
        "warning",
        "it.happened",
        "plain=w1",
        'spaced="a',
        'b"',
        'empty=""',
        "n=3",
        "ok=true",
    ]


def test_a_forged_line_stays_inside_the_line_of_a_stack() -> None:
    try:
        raise ValueError("x\n12:00:00.000 info forged\x1b[2J")
    except ValueError as error:
        record = logging.LogRecord(
            "common.x", logging.ERROR, "", 0, "e", None, (ValueError, error, error.__traceback__)
        )
    first, *rest = PrettyFormatter(color=False).format(record).splitlines()
    assert first.endswith(" error   e")
    assert rest
    assert all(line.startswith("    ") and line.isprintable() for line in rest)
