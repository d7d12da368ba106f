"""`lepton chat` without a terminal: every line is a turn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from cli.chat.conversation import Conversation
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


def test_texts_of_several_lines(lepton: Lepton, server: ScriptedServer) -> None:
    lines = 'one \\\ntwo\n"""\nthree\n  four\n"""\n"""five"""\n/exit\n'
    assert lepton("chat", "-a", server.address, text=lines).exit_code == 0
    asked = [request.chat.messages[-1].content for request in server.requests]
    assert asked == ["one \ntwo", "three\n  four", "five"]


def test_undo_retry_and_history(lepton: Lepton, server: ScriptedServer) -> None:
    lines = "/retry\n/undo\none\ntwo\n/undo\n/retry\n/history\n"
    done = lepton("chat", "-a", server.address, "-s", "brief", text=lines)
    assert done.exit_code == 0
    sent = [[m.content for m in request.chat.messages] for request in server.requests]
    assert sent == [["brief", "one"], ["brief", "one", "Hello world.", "two"], ["brief", "one"]]
    assert "system: brief\nuser: one\nassistant: Hello world.\n" in done.stdout
    assert "nothing to ask again" in done.stderr
    assert "nothing to undo" in done.stderr


def test_models_of_a_chat(lepton: Lepton, server: ScriptedServer) -> None:
    done = lepton("chat", "-a", server.address, text="/model tiny\none\n/model\n")
    assert server.requests[0].model == "tiny"
    assert "* tiny" in done.stdout


def test_save_load_and_continue(
    lepton: Lepton, server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    file = tmp_path / "talk.json"
    chat = ("chat", "-a", server.address)
    lepton(*chat, "-m", "tiny", "-s", "brief", text=f"one\n/save {file}\n")
    assert file.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "lepton").exists()  # without a terminal nothing is kept unasked

    done = lepton(*chat, text=f"/load {file}\ntwo\n/save {file}\n/load /no/such\n/load\n/save\n")
    assert done.exit_code == 0
    assert "/no/such: No such file or directory" in done.stderr
    sent = server.requests[-1]
    assert sent.model == "tiny"
    assert [m.content for m in sent.chat.messages] == ["brief", "one", "Hello world.", "two"]

    done = lepton(*chat, "--continue", text="first\n")
    assert "this is a new one" in done.stderr
    last = tmp_path / "lepton" / "chat" / "last.json"
    assert last.stat().st_mode & 0o777 == 0o600
    lepton(*chat, "--continue", "-s", "longer", text="second\n")
    sent = server.requests[-1]
    assert [m.content for m in sent.chat.messages] == ["longer", "first", "Hello world.", "second"]
    lepton(*chat, "--continue", "--no-history", text="third\n")
    assert b"third" not in last.read_bytes()
    lepton(*chat, "--load", str(file), text="three\n")
    assert len(server.requests[-1].chat.messages) == 6


@pytest.mark.parametrize(
    "text", ["no json", "{}", '{"messages": [{"role": "tool", "content": "x"}]}']
)
def test_files_that_hold_no_conversation(
    lepton: Lepton, server: ScriptedServer, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "diary"
    file.write_text(text)
    done = lepton("chat", "-a", server.address, text=f"/load {file}\n/save {file}\none\n")
    assert done.exit_code == 0
    assert "is no conversation" in done.stderr
    assert "(OUTPUT_EXISTS)" in done.stderr
    assert file.read_text() == text
    assert [len(request.chat.messages) for request in server.requests] == [1]
    done = lepton("chat", "-a", server.address, "--load", str(file), text="one\n")
    assert done.exit_code == 2


def test_a_system_prompt_from_a_file(
    lepton: Lepton, server: ScriptedServer, tmp_path: Path
) -> None:
    file = tmp_path / "system.txt"
    file.write_text("be\nbrief\n")
    lepton("chat", "-a", server.address, "--system-file", str(file), text="one\n")
    assert server.requests[0].chat.messages[0].content == "be\nbrief"
    done = lepton("chat", "--system-file", str(file), "-s", "x", text="one\n")
    assert done.exit_code == 2
    assert "contradict" in done.stderr
    assert lepton("chat", "--system-file", str(tmp_path / "no"), text="one\n").exit_code == 1


def test_a_long_conversation_is_kept_from_its_end() -> None:
    conversation = Conversation("s")
    conversation.ask("x" * 3_000_000)
    conversation.answer("y" * 3_000_000)
    conversation.ask("last")
    kept, model = Conversation.from_json(conversation.to_json(model="m"))
    assert (kept.system, kept.last_question, kept.num_turns, model) == ("s", "last", 1, "m")
