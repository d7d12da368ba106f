"""`lepton chat`: the options."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.completion import complete_models
from cli.options import AddressOption, StateDirOption
from cli.outcome import reported
from cli.screen import err

if TYPE_CHECKING:
    from cli.chat.conversation import Conversation
    from cli.chat.store import ChatStore

__all__ = ["chat"]


def chat(
    *,
    system: Annotated[
        str | None, typer.Option("--system", "-s", help="System prompt.", show_default=False)
    ] = None,
    system_file: Annotated[
        Path | None,
        typer.Option(
            "--system-file", metavar="FILE", help="System prompt from a file.", show_default=False
        ),
    ] = None,
    continue_: Annotated[
        bool, typer.Option("--continue", "-c", help="Go on with the last conversation.")
    ] = False,
    load: Annotated[
        Path | None,
        typer.Option(
            "--load", metavar="FILE", help="Go on with a conversation of /save.", show_default=False
        ),
    ] = None,
    history: Annotated[
        bool,
        typer.Option("--history/--no-history", help="Keep what was typed, and the conversation."),
    ] = True,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="Model name.",
            show_default=False,
            autocompletion=complete_models,
        ),
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
        from cli.chat.session import ChatSession
        from cli.chat.store import ChatStore
        from cli.request import GenerateOptions
        from cli.target import find_target

        store = ChatStore(os.environ)
        conversation, its_model = _begin(store, load, continues=continue_)
        prompt = _system_prompt(system, system_file)
        if prompt is not None:
            conversation.system = prompt or None
        options = GenerateOptions(
            model=model or its_model, temperature=temperature, seed=seed, max_tokens=max_tokens
        )
        ChatSession(
            find_target(address, state_dir).address,
            conversation,
            options,
            timeout_s=timeout,
            store=store if history else None,
            keeps=continue_,
        ).run()


def _begin(store: ChatStore, load: Path | None, *, continues: bool) -> tuple[Conversation, str]:
    """The conversation to go on with, and its model."""
    from cli.chat.conversation import Conversation
    from cli.chat.store import read_conversation
    from common.errors import InvalidRequest, Reason

    if load is not None and continues:
        raise InvalidRequest(
            "--load and --continue contradict each other", reason=Reason.FIELDS_CONTRADICT
        )
    if load is not None:
        return read_conversation(load)
    if continues:
        try:
            return read_conversation(store.last)
        except FileNotFoundError:
            err().print("there is no conversation to go on with; this is a new one", style="dim")
    return Conversation(), ""


def _system_prompt(text: str | None, path: Path | None) -> str | None:
    """None: none was given."""
    from common.errors import InvalidRequest, Reason

    if path is None:
        return text
    if text is not None:
        raise InvalidRequest(
            "--system and --system-file contradict each other", reason=Reason.FIELDS_CONTRADICT
        )
    return path.read_text("utf-8", "surrogateescape").strip()
