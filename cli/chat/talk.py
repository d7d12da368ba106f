"""A conversation and the model that answers it: asks, shows the answer as it comes, keeps what was said."""

from __future__ import annotations

import asyncio
from typing import final

import typer

from cli.answer import AnswerStats, stream_answer, summary
from cli.chat.conversation import Conversation
from cli.chat.store import ChatStore
from cli.client import Client
from cli.outcome import exit_code, show_error
from cli.request import GenerateOptions, build_request, chat_message
from cli.screen import err, out, write
from cli.wrap import WordWrap
from common.clock import SystemClock
from common.errors import LeptonError

__all__ = ["Talk"]


@final
class Talk:
    """What the commands of a chat work on. `store` None: nothing is left behind."""

    def __init__(
        self,
        address: str,
        conversation: Conversation,
        options: GenerateOptions,
        *,
        timeout_s: float | None,
        store: ChatStore | None,
        is_interactive: bool,
    ) -> None:
        self.address = address
        self.conversation = conversation
        self.options = options
        self._timeout_s = timeout_s
        self._store = store
        self._is_interactive = is_interactive
        self._wrap = WordWrap(width=out().width)

    def ask(self, text: str) -> None:
        """One turn. When it fails the conversation is as before, and a chat without a terminal ends."""
        pieces: list[str] = []
        self._wrap = WordWrap(width=out().width)
        stats: AnswerStats | None = None
        self.conversation.ask(text)
        try:
            stats = asyncio.run(self._stream(pieces))
        except KeyboardInterrupt:
            if not self._is_interactive:
                raise
        except LeptonError as error:
            if pieces:
                write(self._wrap.end() + "\n")
            show_error(error)
            if not self._is_interactive:
                raise typer.Exit(exit_code(error)) from None
            self.conversation.undo()
            return
        write(self._wrap.end() + "\n")
        if self._is_interactive:
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

    async def _stream(self, pieces: list[str]) -> AnswerStats:
        def on_text(_: int, piece: str) -> None:
            pieces.append(piece)
            write(self._wrap.push(piece) if self._is_interactive else piece)

        messages = [chat_message(one.role, one.content) for one in self.conversation.messages]
        async with Client(self.address) as client:
            request = build_request(messages, self.options)
            answer = client.generate(request, timeout_s=self._timeout_s)
            return await stream_answer(answer, SystemClock(), on_text=on_text)
