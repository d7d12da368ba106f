"""`lepton generate`: what is sent, what is shown, how it ends."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from common.errors import InvalidRequest, NotFound, Overloaded, Reason, Unavailable
from lepton.v1 import types_pb2
from tests.support.scripted_server import TRACE_ID, ScriptedServer

Lepton = Callable[..., Result]


def test_the_answer_goes_to_stdout_and_the_rest_to_stderr(
    lepton: Lepton, server: ScriptedServer
) -> None:
    done = lepton("generate", "hi", "-a", server.address)
    assert done.exit_code == 0
    assert done.stdout == "Hello world.\n"
    assert done.stderr.startswith("4 tokens · first after ")
    assert TRACE_ID[:12] in done.stderr


def test_nothing_is_sent_that_was_not_said(lepton: Lepton, server: ScriptedServer) -> None:
    lepton("generate", "hi", "-a", server.address)
    (request,) = server.requests
    assert [(m.role, m.content) for m in request.chat.messages] == [(types_pb2.ROLE_USER, "hi")]
    assert request.sampling.ListFields() == []
    assert request.stop.ListFields() == []
    assert not request.output.HasField("logprobs")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--json-schema", "FILE"], {"json_schema": '{"type": "object"}'}),
        (["--lark", "FILE"], {"grammar": '{"type": "object"}'}),
        (["--regex", "a+"], {"regex": "a+"}),
        (["--json-object"], {"json_object": {}}),
        (["--choice", "yes", "--choice", "no"], {"literals": {"texts": ["yes", "no"]}}),
    ],
    ids=lambda case: str(case[0]) if isinstance(case, list) else "",
)
def test_a_constraint_reaches_its_field(
    lepton: Lepton,
    server: ScriptedServer,
    tmp_path: Path,
    words: list[str],
    expected: dict[str, Any],
) -> None:
    (tmp_path / "form").write_text('{"type": "object"}', "utf-8")
    words = [str(tmp_path / "form") if word == "FILE" else word for word in words]
    assert lepton("generate", "hi", "-a", server.address, *words).exit_code == 0
    (request,) = server.requests
    assert request.constraint == types_pb2.Constraint(**expected)


def test_two_constraints_contradict_each_other(lepton: Lepton, server: ScriptedServer) -> None:
    done = lepton("generate", "hi", "-a", server.address, "--regex", "a", "--choice", "b")
    assert done.exit_code != 0
    assert "--regex and --choice contradict each other" in done.stderr
    assert not server.requests


def test_a_schema_that_cannot_be_read_is_told(lepton: Lepton, server: ScriptedServer) -> None:
    done = lepton("generate", "hi", "-a", server.address, "--json-schema", "/no/such/file")
    assert done.exit_code != 0
    assert "/no/such/file cannot be read" in done.stderr


def test_every_option_reaches_its_field(lepton: Lepton, server: ScriptedServer) -> None:
    options = (
        "--system=be brief --model=tiny --revision=0123abcd --temperature=0.5 --top-p=0.9 --top-k=40 "
        "--min-p=0.25 --repetition-penalty=1.5 --frequency-penalty=-1 --presence-penalty=1 "
        "--logit-bias=3=-100 --logit-bias=4=2.5 --seed=9 --n=2 --max-tokens=20 --min-tokens=2 "
        "--stop=END --stop=. --stop-id=5 --ignore-eos --logprobs=3 --priority=high "
        "--session-key=s --request-id=r:1 --timeout=30"
    )
    words = options.replace("be brief", "be_brief").split()
    done = lepton("generate", "hi", "-a", server.address, *words)
    assert done.exit_code == 0
    (request,) = server.requests
    sampling, stop = request.sampling, request.stop
    assert [m.content for m in request.chat.messages] == ["be_brief", "hi"]
    assert (request.model, request.revision, request.session_key) == ("tiny", "0123abcd", "s")
    assert request.request_id == "r:1"
    assert request.priority == types_pb2.PRIORITY_HIGH
    assert (sampling.temperature, sampling.top_k, sampling.min_p) == (0.5, 40, 0.25)
    assert sampling.top_p == pytest.approx(0.9)
    assert sampling.repetition_penalty == 1.5
    assert (sampling.frequency_penalty, sampling.presence_penalty) == (-1, 1)
    assert dict(sampling.logit_bias) == {3: -100, 4: 2.5}
    assert (sampling.seed, sampling.n) == (9, 2)
    assert (stop.max_tokens, stop.min_tokens, stop.ignore_eos) == (20, 2, True)
    assert list(stop.strings) == ["END", "."]
    assert list(stop.token_ids) == [5]
    assert request.output.logprobs == 3


def test_zero_is_not_unset(lepton: Lepton, server: ScriptedServer) -> None:
    lepton("generate", "hi", "-a", server.address, "--temperature=0", "--seed=0", "--max-tokens=0")
    (request,) = server.requests
    assert request.sampling.HasField("temperature")
    assert request.sampling.HasField("seed")
    assert request.stop.HasField("max_tokens")


def test_raw_text_and_stdin(lepton: Lepton, server: ScriptedServer) -> None:
    lepton("generate", "--raw", "-", "-a", server.address, text="two\nlines")
    assert server.requests[0].text == "two\nlines"


def test_json_is_one_event_a_line_then_a_summary(lepton: Lepton, server: ScriptedServer) -> None:
    done = lepton("generate", "hi", "-a", server.address, "--json")
    *events, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["seq"] for event in events] == list(range(6))
    assert events[0]["started"]["worker_id"] == "w1"
    assert "".join(e["delta"]["text"] for e in events if "delta" in e) == "Hello world."
    assert events[-1]["finished"]["usage"] == {"prompt_tokens": 5, "completion_tokens": 4}
    assert events[-1]["finished"]["choices"] == [{"reason": "FINISH_REASON_STOP"}]
    assert last["summary"]["trace_id"] == TRACE_ID
    assert done.stderr == ""


def test_several_answers_are_not_mixed(lepton: Lepton, server: ScriptedServer) -> None:
    server.choices = 2
    done = lepton("generate", "hi", "-n", "2", "-a", server.address)
    assert done.stdout == "Hello world.\nHello world.\n"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            InvalidRequest("max_tokens is 0", reason=Reason.FIELD_OUT_OF_RANGE, field="stop"),
            2,
            "error: max_tokens is 0 (FIELD_OUT_OF_RANGE)\n",
        ),
        (NotFound("no model x"), 2, "error: no model x (MODEL_NOT_FOUND)\n       `lepton models`"),
        (Overloaded("full", retry_after_s=1.5), 1, "error: full (QUEUE_FULL)\n       try again in"),
        (Unavailable("no worker"), 1, "error: no worker (NO_WORKER)\n       `lepton ps`"),
    ],
)
def test_an_error_is_one_line_with_what_to_do(
    lepton: Lepton, server: ScriptedServer, error: Any, code: int, said: str
) -> None:
    server.error = error
    done = lepton("generate", "hi", "-a", server.address)
    assert done.exit_code == code
    assert done.stdout == ""
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr


def test_an_error_in_json_is_an_object(lepton: Lepton, server: ScriptedServer) -> None:
    server.error = InvalidRequest("bad", reason=Reason.FIELD_OUT_OF_RANGE, field="sampling.n")
    done = lepton("generate", "hi", "-a", server.address, "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout) == {
        "error": {"reason": "FIELD_OUT_OF_RANGE", "message": "bad", "field": "sampling.n"}
    }


def test_an_error_in_the_middle_ends_the_line_first(lepton: Lepton, server: ScriptedServer) -> None:
    server.error, server.error_after = Unavailable("gone", reason=Reason.WORKER_LOST), 2
    done = lepton("generate", "hi", "-a", server.address)
    assert done.exit_code == 1
    assert done.stdout == "Hello wor\n"
    assert done.stderr == "error: gone (WORKER_LOST)\n"


def test_a_message_from_a_peer_cannot_drive_the_terminal(
    lepton: Lepton, server: ScriptedServer
) -> None:
    server.error = NotFound('no \x1b[31mmodel\x1b[0m [bold]x[/] \\ "quoted"\nsecond line')
    done = lepton("generate", "hi", "-a", server.address)
    assert "\x1b" not in done.stderr
    assert '[bold]x[/] \\ "quoted"\\nsecond line' in done.stderr


def test_nobody_there(lepton: Lepton) -> None:
    done = lepton("generate", "hi", "-a", "127.0.0.1:1")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: nothing answers at 127.0.0.1:1 (UNREACHABLE)\n")
    assert "lepton up" in done.stderr


class _Http1(socketserver.StreamRequestHandler):
    """Says what a server of HTTP/1.1 says to gRPC."""

    def handle(self) -> None:
        self.rfile.readline()
        self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")


def test_the_port_of_rest_is_recognised(lepton: Lepton) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Http1) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = lepton("generate", "hi", "-a", f"127.0.0.1:{server.server_address[1]}")
        server.shutdown()
    assert done.exit_code == 1
    assert "speaks HTTP/1.1; this wants the gRPC port" in done.stderr


@pytest.mark.parametrize("address", ["", "localhost", "a:b", "http://x:1", "a b:1", "x:123456"])
def test_an_address_that_is_none_is_refused(lepton: Lepton, address: str) -> None:
    done = lepton("generate", "hi", "-a", address)
    assert done.exit_code == 2
    assert "HOST:PORT" in done.stderr


@pytest.mark.parametrize(
    "option", ["--logit-bias=x", "--logit-bias=1=y", "--logit-bias=-1=2", "--top-k=4294967296"]
)
def test_numbers_that_do_not_fit_are_refused(
    lepton: Lepton, server: ScriptedServer, option: str
) -> None:
    done = lepton("generate", "hi", "-a", server.address, option)
    assert done.exit_code == 2
    assert "error:" in done.stderr
    assert server.requests == []


def test_text_that_is_not_utf_8_is_refused(lepton: Lepton, server: ScriptedServer) -> None:
    done = lepton("generate", "caf\udce9", "-a", server.address)
    assert done.exit_code == 2
    assert "not valid UTF-8" in done.stderr


def test_a_wrong_option_is_a_usage_error(lepton: Lepton) -> None:
    assert lepton("generate", "hi", "--no-such").exit_code == 2
    assert lepton("generate").exit_code == 2
    assert lepton("generate", "hi", "--priority=urgent").exit_code == 2


def test_a_direct_answer_comes_from_the_worker_that_was_picked(
    lepton: Lepton, server: ScriptedServer
) -> None:
    done = lepton("generate", "hi", "-a", server.address, "--direct", "-m", "alias")
    assert done.exit_code == 0, done.output
    assert done.stdout == "Hello world.\n"
    (picked,) = server.picks
    assert picked.request.model == "alias"
    (request,) = server.requests
    assert (request.model, request.revision) == ("tiny", "0123456789abcdef" * 2)
    assert request.chat == picked.request.chat


def test_a_direct_answer_cannot_be_resumable(lepton: Lepton, server: ScriptedServer) -> None:
    done = lepton("generate", "hi", "-a", server.address, "--direct", "--resumable", "5")
    assert done.exit_code == 2
    assert "FIELDS_CONTRADICT" in done.stderr
    assert server.picks == []
