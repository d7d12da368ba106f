"""`lepton chat` without a terminal: every line is a turn."""

from __future__ import annotations

from collections.abc import Callable

from typer.testing import Result

from common.errors import Overloaded
from lepton.v1 import types_pb2
from tests.support.scripted_server import ScriptedServer

Lepton = Callable[..., Result]


def test_the_conversation_grows(lepton: Lepton, server: ScriptedServer) -> None:
    done = lepton("chat", "-a", server.address, "-s", "be brief", text="one\n\ntwo\n")
    assert done.exit_code == 0
    assert done.stdout == "Hello world.\nHello world.\n"
    first, second = server.requests
    assert [(m.role, m.content) for m in first.chat.messages] == [
        (types_pb2.ROLE_SYSTEM, "be brief"),
        (types_pb2.ROLE_USER, "one"),
    ]
    assert [m.content for m in second.chat.messages] == ["be brief", "one", "Hello world.", "two"]


def test_commands(lepton: Lepton, server: ScriptedServer) -> None:
    lines = (
        "one\n/reset\ntwo\n/system you are terse\nthree\n/system\nfour\n/what\n/help\n/exit\nno\n"
    )
    done = lepton("chat", "-a", server.address, text=lines)
    assert done.exit_code == 0
    sent = [[m.content for m in request.chat.messages] for request in server.requests]
    assert sent == [["one"], ["two"], ["you are terse", "three"], ["four"]]
    assert "/what: no such command" in done.stderr
    assert "/reset" in done.stderr


def test_an_error_ends_it_with_its_code(lepton: Lepton, server: ScriptedServer) -> None:
    server.error = Overloaded("full")
    done = lepton("chat", "-a", server.address, text="one\ntwo\n")
    assert done.exit_code == 1
    assert "error: full (QUEUE_FULL)" in done.stderr
    assert len(server.requests) == 1
