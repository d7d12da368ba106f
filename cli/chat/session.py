"""A chat while it runs: reads what the user types, asks, shows the answer as it comes."""

from __future__ import annotations

import asyncio
import sys
from typing import final

import typer

from cli.answer import AnswerStats, stream_answer, summary
from cli.chat.conversation import Conversation
from cli.chat.line_input import editing, read_text
from cli.chat.slash import run_slash
from cli.chat.store import ChatStore
from cli.client import Client
from cli.outcome import exit_code, show_error
from cli.request import GenerateOptions, build_request, chat_message
from cli.screen import err, out, write
from cli.wrap import WordWrap
from common.clock import SystemClock
from common.errors import LeptonError

__all__ = ["ChatSession"]


@final
class ChatSession:
    """One chat. `store` None: nothing is left behind; without a terminal only `keeps` leaves something."""

    def __init__(
        self,
        address: str,
        conversation: Conversation,
        options: GenerateOptions,
        *,
        timeout_s: float | None,
        store: ChatStore | None,
        keeps: bool,
    ) -> None:
        self.address = address
        self.conversation = conversation
        self.options = options
        self._timeout_s = timeout_s
        self.is_interactive = sys.stdin.isatty() and sys.stdout.isatty()
        self._store = store if self.is_interactive or keeps else None
        self._wrap = WordWrap(width=out().width)

    def run(self) -> None:
        """Until the end of input."""
        if not self.is_interactive:
            self._loop()
            return
        with editing(self._store.input if self._store else None):
            turns = self.conversation.num_turns
            note = f" after {turns} turn{'s' * (turns != 1)}" if turns else ""
            err().print(f"[dim]{self.address}{note}; /help lists the commands, Ctrl-D leaves[/]")
            self._loop()

    def ask(self, text: str) -> None:
        """One turn. When it fails the conversation is as before, and a chat without a terminal ends."""
        pieces: list[str] = []
        self._wrap = WordWrap(width=out().width)
        stats: AnswerStats | None = None
        self.conversation.ask(text)
        try:
            stats = asyncio.run(self._stream(pieces))
        except KeyboardInterrupt:
            if not self.is_interactive:
                raise
        except LeptonError as error:
            if pieces:
                write(self._wrap.end() + "\n")
            show_error(error)
            if not self.is_interactive:
                raise typer.Exit(exit_code(error)) from None
            self.conversation.undo()
            return
        write(self._wrap.end() + "\n")
        if self.is_interactive:
            err().print(summary(stats) if stats else "stopped", style="dim")
        self.conversation.answer("".join(pieces))
        self.keep()

    def retry(self) -> None:
        """Asks the last question again; its old answer comes back when that fails."""
        old = self.conversation
        question = old.last_question
        if question is None:
            err().print("there is nothing to ask again", style="yellow")
            return
        self.conversation = old.copy()
        self.conversation.undo()
        turns = self.conversation.num_turns
        self.ask(question)
        if self.conversation.num_turns == turns:
            self.conversation = old

    def keep(self) -> None:
        """Leaves the conversation for `--continue`."""
        if self._store is not None:
            self._store.keep(self.conversation, model=self.options.model)

    def _loop(self) -> None:
        while (text := self._read()) is not None:
            if text.startswith("/"):
                if not run_slash(self, text):
                    return
            elif text:
                self.ask(text)

    def _read(self) -> str | None:
        while True:
            try:
                return read_text(self._read_line)
            except EOFError:
                if self.is_interactive:
                    write("\n")
                return None
            except KeyboardInterrupt:
                if not self.is_interactive:
                    raise
                write("\n")

    def _read_line(self, goes_on: bool) -> str:  # noqa: FBT001 - a callback's one argument
        if not self.is_interactive:
            return input("")
        # readline counts the escape codes of a coloured prompt unless they are bracketed like this.
        sign = "… " if goes_on else "> "
        return input(f"\001\033[1m\002{sign}\001\033[0m\002")

    async def _stream(self, pieces: list[str]) -> AnswerStats:
        def on_text(_: int, piece: str) -> None:
            pieces.append(piece)
            write(self._wrap.push(piece) if self.is_interactive else piece)

        messages = [chat_message(one.role, one.content) for one in self.conversation.messages]
        async with Client(self.address) as client:
            request = build_request(messages, self.options)
            answer = client.generate(request, timeout_s=self._timeout_s)
            return await stream_answer(answer, SystemClock(), on_text=on_text)
