"""A chat while it runs: reads what the user types, and does it."""

from __future__ import annotations

import sys
from typing import final

from cli.chat.conversation import Conversation
from cli.chat.line_input import editing, read_text
from cli.chat.slash import run_slash
from cli.chat.store import ChatStore
from cli.chat.talk import Talk
from cli.request import GenerateOptions
from cli.screen import err, write

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
        self._is_interactive = sys.stdin.isatty() and sys.stdout.isatty()
        self._store = store if self._is_interactive or keeps else None
        self._talk = Talk(
            address,
            conversation,
            options,
            timeout_s=timeout_s,
            store=self._store,
            is_interactive=self._is_interactive,
        )

    def run(self) -> None:
        """Until the end of input."""
        if not self._is_interactive:
            self._loop()
            return
        with editing(self._store.input if self._store else None):
            turns = self._talk.conversation.num_turns
            note = f" after {turns} turn{'s' * (turns != 1)}" if turns else ""
            err().print(
                f"[dim]{self._talk.address}{note}; /help lists the commands, Ctrl-D leaves[/]"
            )
            self._loop()

    def _loop(self) -> None:
        while (text := self._read()) is not None:
            if text.startswith("/"):
                if not run_slash(self._talk, text):
                    return
            elif text:
                self._talk.ask(text)

    def _read(self) -> str | None:
        while True:
            try:
                return read_text(self._read_line)
            except EOFError:
                if self._is_interactive:
                    write("\n")
                return None
            except KeyboardInterrupt:
                if not self._is_interactive:
                    raise
                write("\n")

    def _read_line(self, goes_on: bool) -> str:  # noqa: FBT001 - a callback's one argument
        if not self._is_interactive:
            return input("")
        # readline counts the escape codes of a coloured prompt unless they are bracketed like this.
        sign = "… " if goes_on else "> "
        return input(f"\001\033[1m\002{sign}\001\033[0m\002")
