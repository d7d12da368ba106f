"""Ctrl-C: it ends a command quietly, and in a chat only the answer."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lepton_up import start_lepton
from tests.support.patience import PATIENCE_S
from tests.support.processes import ROOT, until
from tests.support.scripted_server import ScriptedServer, scripted_server

IN_ITS_TERMINAL = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C in it is a signal
from cli.main import main
main()
"""


@pytest.fixture
def held() -> Iterator[ScriptedServer]:
    """Answers with one word and then waits."""
    with scripted_server(hold=threading.Event()) as server:
        yield server
        assert server.hold is not None
        server.hold.set()


async def test_an_interrupted_generate_ends_with_130_and_no_trace(
    held: ScriptedServer, tmp_path: Path
) -> None:
    process = await start_lepton("generate", "hi", "-a", held.address, state=tmp_path)
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        assert await process.stdout.readexactly(5) == b"Hello"  # not before it is on the screen
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert process.returncode == 130, (out, err)
    assert out == b"\n"
    assert err == b""


async def test_an_interrupted_bench_shows_what_it_measured(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    with scripted_server() as server:
        process = await start_lepton(
            *("bench", "-a", server.address, "-c", "2", "-r", "1000000", "--json"),
            *("--report", str(page)),
            state=tmp_path,
        )
        await until(lambda: len(server.requests) > 20, what="some requests were answered")
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert process.returncode == 130, (out, err)
    (report,) = json.loads(out)["reports"]
    assert report["complete"] is False
    assert report["failed"] == 0
    assert 10 < report["requests"] < 1_000_000
    assert "2 at once, interrupted" in page.read_text("utf-8")


async def test_a_reader_that_goes_away_ends_it_quietly(
    held: ScriptedServer, tmp_path: Path
) -> None:
    process = await start_lepton("generate", "hi", "-a", held.address, state=tmp_path)
    await until(held.begun.is_set, what="the answer has begun")
    assert process.stdout is not None
    assert await process.stdout.read(5) == b"Hello"
    process.stdout._transport.close()  # type: ignore[attr-defined]  # what `| head` does
    assert held.hold is not None
    held.hold.set()
    assert process.stderr is not None
    assert await process.stderr.read() == b""
    assert await process.wait() == 1


async def test_ctrl_c_in_a_chat_stops_the_answer_only(held: ScriptedServer) -> None:
    held.words = ("Hello there", " world.")
    screen = bytearray()
    main, terminal = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "PYTHONPATH": f"{ROOT}:{ROOT / 'common' / 'gen'}"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", IN_ITS_TERMINAL, "chat", "-a", held.address),
        cwd=ROOT,
        env=env,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    os.set_blocking(main, False)

    def shown(*words: bytes) -> bool:
        try:
            screen.extend(os.read(main, 65536))
        except BlockingIOError:
            pass
        except OSError:
            return True  # the other side is closed
        at = 0
        for word in words:
            at = screen.find(word, at) + 1
            if not at:
                return False
        return True

    try:
        await until(lambda: shown(b"/help", b"> "), what="a prompt")
        os.write(main, b"one\n")
        await until(lambda: shown(b"one", b"Hello") and held.begun.is_set(), what="text")
        os.write(main, b"\x03")
        await until(lambda: shown(b"Hello", b"stopped", b"> "), what="a prompt again")
        assert held.hold is not None
        held.hold.set()
        os.write(main, b"two\n")
        # Not before the prompt is back: what is typed while the terminal changes hands is thrown away.
        await until(lambda: shown(b"two", b"world.", b"> "), what="a second answer")
        os.write(main, b"\x04")
        await until(lambda: shown() and process.returncode is not None, what="the end")
        assert process.returncode == 0
        # What was heard of the first answer stays in the conversation.
        said = [message.content for message in held.requests[1].chat.messages]
        assert said == ["one", "Hello there", "two"]
        assert b"Traceback" not in screen
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(main)
