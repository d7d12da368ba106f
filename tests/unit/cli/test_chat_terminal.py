"""`lepton chat` on a terminal: editing, what was typed in earlier chats, Ctrl-C, and what is left behind."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE_S
from tests.support.processes import ROOT
from tests.support.scripted_server import ScriptedServer


class Terminal:
    """`lepton chat` and its end of a pseudo-terminal."""

    def __init__(self, server: ScriptedServer, home: Path, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        env = {k: v for k, v in os.environ.items() if not k.startswith("LEPTON_")}
        env |= {
            "XDG_STATE_HOME": str(home),
            "LEPTON_AGENT_STATE_DIR": str(home / "none"),
            "PYTHONPATH": f"{ROOT}:{ROOT}/common/gen",
            "TERM": "xterm",
            "INPUTRC": "/dev/null",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "chat", "-a", server.address, *arguments],
            cwd=ROOT,
            env=env,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.seen = ""

    def until(self, text: str) -> str:
        """What came up to `text`, which is then behind us."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"no {text!r} in {self.seen!r}"
            if select.select([self._master], [], [], left)[0]:
                self.seen += os.read(self._master, 65536).decode("utf-8", "replace")
        before, _, self.seen = self.seen.partition(text)
        return before

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def end(self) -> int:
        self.type("\x04")
        code = self._process.wait(PATIENCE_S)
        os.close(self._master)
        return code

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
            os.close(self._master)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for one in opened:
        one.kill()


def test_a_chat_is_kept_and_continued(
    server: ScriptedServer, tmp_path: Path, terminals: list[Terminal]
) -> None:
    first = Terminal(server, tmp_path)
    terminals.append(first)
    first.until("> ")
    first.type("onx\x7fe\r")  # a letter taken back
    first.until("Hello world.")
    first.until("> ")
    assert first.end() == 0
    kept = tmp_path / "lepton" / "chat"
    assert kept.stat().st_mode & 0o777 == 0o700
    assert {file.name for file in kept.iterdir()} == {"last.json", "input"}
    assert {file.stat().st_mode & 0o777 for file in kept.iterdir()} == {0o600}

    second = Terminal(server, tmp_path, "--continue")
    terminals.append(second)
    assert "after 1 turn" in second.until("> ")
    second.type("\x1b[A again\r")  # the key "up": what was typed in the first chat
    second.until("Hello world.")
    second.until("> ")
    assert second.end() == 0
    sent = [message.content for message in server.requests[-1].chat.messages]
    assert sent == ["one", "Hello world.", "one again"]


def test_nothing_is_left_behind_when_nobody_wants_it(
    server: ScriptedServer, tmp_path: Path, terminals: list[Terminal]
) -> None:
    chat = Terminal(server, tmp_path, "--no-history")
    terminals.append(chat)
    chat.until("> ")
    chat.type("one\r")
    chat.until("Hello world.")
    chat.until("> ")
    assert chat.end() == 0
    assert not (tmp_path / "lepton").exists()


def test_ctrl_c_stops_the_answer_not_the_chat(
    server: ScriptedServer, tmp_path: Path, terminals: list[Terminal]
) -> None:
    server.hold = threading.Event()
    chat = Terminal(server, tmp_path, "--no-history")
    terminals.append(chat)
    chat.until("> ")
    chat.type("one\r")
    assert server.begun.wait(PATIENCE_S)
    chat.interrupt()
    chat.until("stopped")
    server.hold.set()
    chat.until("> ")
    chat.type("/history\r")
    chat.until("assistant:")
    chat.until("> ")
    assert chat.end() == 0
