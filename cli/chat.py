"""`lepton chat`: a conversation, streamed."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli.options import AddressOption, StateDirOption
from cli.outcome import reported, show_error
from cli.screen import err, out, write
from cli.wrap import WordWrap

if TYPE_CHECKING:
    from cli.answer import AnswerStats
    from cli.request import GenerateOptions
    from lepton.v1 import types_pb2

__all__ = ["chat"]

_HELP: Final = """\
/reset          forget the conversation
/system TEXT    forget it, and set the system prompt (without TEXT: none)
/exit           leave (as Ctrl-D does)
Ctrl-C          stop the answer, not the chat"""


def chat(
    *,
    system: Annotated[
        str | None, typer.Option("--system", "-s", help="System prompt.", show_default=False)
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Model name.", show_default=False)
    ] = "",
    temperature: Annotated[
        float | None, typer.Option("--temperature", "-t", help="0 is greedy (the default).")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Repeats the draw.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer.")] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Deadline of each answer, seconds.", min=0.001)
    ] = None,
    address: AddressOption = None,
    state_dir: StateDirOption = None,
) -> None:
    """Talk with a model.

    /help lists the commands. Without a terminal every line of stdin is one turn.
    """
    with reported(as_json=False):
        from cli.request import GenerateOptions
        from cli.target import find_target

        options = GenerateOptions(
            model=model, temperature=temperature, seed=seed, max_tokens=max_tokens
        )
        where = find_target(address, state_dir).address
        _Conversation(where, options, timeout_s=timeout, system=system).run()


class _Conversation:
    def __init__(
        self, address: str, options: GenerateOptions, *, timeout_s: float | None, system: str | None
    ) -> None:
        self._address = address
        self._options = options
        self._timeout_s = timeout_s
        self._system = system
        self._messages: list[types_pb2.ChatMessage] = []
        self._wrap = WordWrap(width=out().width)
        self._interactive = sys.stdin.isatty() and sys.stdout.isatty()

    def run(self) -> None:
        """Until the end of input."""
        if self._interactive:
            # Line editing and history for input(); absent from some builds of Python.
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401
            err().print(f"[dim]{self._address}; /help lists the commands, Ctrl-D leaves[/]")
        self._reset()
        while (line := self._read()) is not None:
            if line.startswith("/"):
                if not self._command(line):
                    return
            elif line:
                self._turn(line)

    def _read(self) -> str | None:
        while True:
            try:
                # readline counts the escape codes of a coloured prompt unless they are bracketed like this.
                return input(
                    "\001\033[1m\002> \001\033[0m\002" if self._interactive else ""
                ).strip()
            except EOFError:
                if self._interactive:
                    write("\n")
                return None
            except KeyboardInterrupt:
                if not self._interactive:
                    raise
                write("\n")

    def _command(self, line: str) -> bool:
        """Does what a /command says; False to leave."""
        name, _, rest = line.partition(" ")
        if name in ("/exit", "/quit", "/bye"):
            return False
        if name == "/reset":
            self._reset()
        elif name == "/system":
            self._system = rest.strip() or None
            self._reset()
        elif name == "/help":
            err().print(_HELP, style="dim", markup=False)
        else:
            err().print(f"{name}: no such command; /help lists them", style="yellow", markup=False)
        return True

    def _reset(self) -> None:
        from cli.request import chat_message

        self._messages = [chat_message("system", self._system)] if self._system else []

    def _turn(self, line: str) -> None:
        from cli.answer import summary
        from cli.request import chat_message
        from common.errors import LeptonError

        self._messages.append(chat_message("user", line))
        pieces: list[str] = []
        self._wrap = WordWrap(width=out().width)
        stats: AnswerStats | None = None
        try:
            stats = asyncio.run(self._ask(pieces))
        except KeyboardInterrupt:
            if not self._interactive:
                raise
        except LeptonError as error:
            if pieces:
                write(self._wrap.end() + "\n")
            show_error(error)
            if not self._interactive:
                from cli.outcome import exit_code

                raise typer.Exit(exit_code(error)) from None
            self._messages.pop()  # the turn did not happen
            return
        write(self._wrap.end() + "\n")
        if self._interactive:
            err().print(summary(stats) if stats else "stopped", style="dim")
        self._messages.append(chat_message("assistant", "".join(pieces)))

    async def _ask(self, pieces: list[str]) -> AnswerStats:
        from cli.answer import stream_answer
        from cli.client import Client
        from cli.request import build_request
        from common.clock import SystemClock

        def on_text(_: int, piece: str) -> None:
            pieces.append(piece)
            write(self._wrap.push(piece) if self._interactive else piece)

        async with Client(self._address) as client:
            request = build_request(self._messages, self._options)
            answer = client.generate(request, timeout_s=self._timeout_s)
            return await stream_answer(answer, SystemClock(), on_text=on_text)
