"""What a chat leaves behind: the last conversation and what was typed, for their owner's eyes only.

$XDG_STATE_HOME/lepton/chat/last.json   the conversation that `--continue` goes on with
$XDG_STATE_HOME/lepton/chat/input       the last lines that were typed
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, final

from agent.state import user_state_dir
from cli.chat.conversation import Conversation
from common.errors import Conflict, InvalidRequest, Reason

__all__ = ["ChatStore", "read_conversation", "write_conversation"]

_FILE_BYTES_MAX: Final = 16 << 20


@final
class ChatStore:
    """The files of one user."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._folder = user_state_dir(env) / "chat"
        self.last = self._folder / "last.json"
        self.input = self._folder / "input"

    def keep(self, conversation: Conversation, *, model: str) -> None:
        """For `--continue`. A disk that does not take it costs the memory, not the chat."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(self.last, conversation.to_json(model=model))


def read_conversation(path: Path) -> tuple[Conversation, str]:
    """The conversation of a file, and its model. Raises `InvalidRequest`, `OSError`."""
    with path.open("rb") as file:
        text = file.read(_FILE_BYTES_MAX + 1)
    if len(text) > _FILE_BYTES_MAX:
        raise InvalidRequest(
            f"{path} is larger than {_FILE_BYTES_MAX >> 20} MiB", reason=Reason.FIELD_TOO_LARGE
        )
    try:
        return Conversation.from_json(text)
    except ValueError as error:
        raise InvalidRequest(
            f"{path} is no conversation: {error}", reason=Reason.FIELD_MALFORMED
        ) from None


def write_conversation(path: Path, conversation: Conversation, *, model: str) -> None:
    """Writes a file, readable to its owner, at once. Raises `OSError`, and `Conflict(OUTPUT_EXISTS)` for a file that
    holds something else.
    """
    if path.exists():
        try:
            read_conversation(path)
        except InvalidRequest:
            raise Conflict(
                f"{path} exists and is no conversation", reason=Reason.OUTPUT_EXISTS
            ) from None
    _replace(path, conversation.to_json(model=model))


def _replace(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
