"""What begins with a slash: the commands of a chat."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.chat.store import read_conversation, write_conversation
from cli.chat.talk import Talk
from cli.client import Client
from cli.outcome import show_error
from cli.screen import cell, err, out
from common.errors import LeptonError

__all__ = ["run_slash"]


@dataclass(frozen=True, slots=True)
class _Slash:
    usage: str
    what: str
    run: Callable[[Talk, str], None]


def run_slash(talk: Talk, line: str) -> bool:
    """Does what the line says, and tells what is wrong with it; False to leave."""
    name, _, rest = line.partition(" ")
    if name in ("/exit", "/quit", "/bye"):
        return False
    command = _COMMANDS.get(name)
    if command is None:
        err().print(f"{name}: no such command; /help lists them", style="yellow", markup=False)
        return True
    try:
        command.run(talk, rest.strip())
    except LeptonError as error:
        show_error(error)
    except OSError as error:
        err().print(f"{error.filename}: {error.strerror}", style="yellow", markup=False)
    return True


def _history(talk: Talk, _: str) -> None:
    for message in talk.conversation.messages:
        out().print(cell(f"{message.role}:", "bold"), cell(message.content), soft_wrap=True)


def _retry(talk: Talk, _: str) -> None:
    talk.retry()


def _undo(talk: Talk, _: str) -> None:
    if talk.conversation.undo() is None:
        _note("there is nothing to undo")
        return
    talk.keep()
    turns = talk.conversation.num_turns
    _note(f"undone; {turns} turn{'s' * (turns != 1)} left")


def _reset(talk: Talk, _: str) -> None:
    talk.conversation.reset()


def _system(talk: Talk, text: str) -> None:
    talk.conversation.reset()
    talk.conversation.system = text or None


def _model(talk: Talk, name: str) -> None:
    if name:
        talk.options = dataclasses.replace(talk.options, model=name)
        return
    for model in asyncio.run(_models(talk.address)):
        mark = "* " if model == talk.options.model else "  "
        out().print(cell(mark + model))


async def _models(address: str) -> list[str]:
    async with Client(address) as client:
        return [one.model for one in await client.list_models()]


def _save(talk: Talk, name: str) -> None:
    if not name:
        _note("/save FILE: which file?")
        return
    path = Path(name).expanduser()
    write_conversation(path, talk.conversation, model=talk.options.model)
    _note(f"saved {path}")


def _load(talk: Talk, name: str) -> None:
    if not name:
        _note("/load FILE: which file?")
        return
    talk.conversation, model = read_conversation(Path(name).expanduser())
    if model:
        talk.options = dataclasses.replace(talk.options, model=model)
    turns = talk.conversation.num_turns
    _note(f"{turns} turn{'s' * (turns != 1)}")
    talk.keep()


def _help(_: Talk, __: str) -> None:
    width = max(len(one.usage) for one in _COMMANDS.values())
    for one in _COMMANDS.values():
        err().print(f"{one.usage:<{width}}  {one.what}", style="dim", markup=False)
    err().print(_MORE, style="dim", markup=False)


def _note(text: str) -> None:
    err().print(text, style="dim", markup=False)


_MORE: Final = '''\
/exit          leave (as Ctrl-D does)
Ctrl-C         stop the answer, not the chat
A line that ends with \\ goes on in the next one; """ opens and closes a text of several lines.'''

_COMMANDS: Final = {
    one.usage.partition(" ")[0]: one
    for one in (
        _Slash("/history", "show the conversation", _history),
        _Slash("/retry", "ask the last question again", _retry),
        _Slash("/undo", "take the last question and its answer back", _undo),
        _Slash("/reset", "forget the conversation", _reset),
        _Slash("/system TEXT", "forget it, and set the system prompt (or none)", _system),
        _Slash("/model NAME", "ask another model (or list them)", _model),
        _Slash("/save FILE", "write the conversation into a file", _save),
        _Slash("/load FILE", "go on with the conversation of a file", _load),
        _Slash("/help", "this list", _help),
    )
}
