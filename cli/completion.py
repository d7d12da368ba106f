"""Shell completion: the scripts, and the names that only a running cluster knows.

A shell asks at every press of a key, so a cluster gets a second, and silence is an answer.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli.outcome import reported

__all__ = [
    "COMPLETE_VARIABLE",
    "PROGRAM",
    "complete_models",
    "complete_workers",
    "completion",
    "install_completion",
    "prepare_completion",
]

_ASK_S_MAX: Final = 1.0
PROGRAM: Final = "lepton"
"""As shells call it."""
COMPLETE_VARIABLE: Final = "_LEPTON_COMPLETE"
"""Set by the scripts when a shell wants to know what comes next."""
_SHELLS: Final = ("bash", "zsh", "fish")


def prepare_completion() -> None:
    """Makes the command answer shells; Typer does so itself only with the options that we have not."""
    from typer._completion_classes import completion_init

    completion_init()


def completion(
    shell: Annotated[
        str, typer.Argument(metavar="bash | zsh | fish", help="Which shell.", show_default=False)
    ] = "",
) -> None:
    """Print the completion script of a shell.

    For this shell only: eval "$(lepton completion bash)". For good: lepton --install-completion.
    """
    with reported(as_json=False):
        typer.echo(_script(_checked(shell or _login_shell())))


def install_completion(*, wanted: bool) -> None:
    """Callback of `--install-completion`: writes the script where the shell of $SHELL finds it, and ends."""
    if not wanted:
        return
    from typer._completion_shared import install

    with reported(as_json=False):
        shell = _checked(_login_shell())
        _, path = install(shell, PROGRAM, COMPLETE_VARIABLE)
        typer.echo(f"{shell}: wrote {path}; it holds in new terminals")
    raise typer.Exit


def complete_models(ctx: Any, incomplete: str) -> list[str]:
    """Names of models that can be asked now."""
    from cli.client import Client
    from cli.target import find_target

    async def ask() -> list[str]:
        target = find_target(_given(ctx, "address"), _state_dir(ctx))
        async with Client(target.address) as client:
            return [model.model for model in await client.list_models()]

    return _bounded(ask, incomplete)


def complete_workers(ctx: Any, incomplete: str) -> list[str]:
    """Ids of the workers that a router knows."""
    from cli.door import find_door
    from cli.top.source import TopSource
    from common.clock import SystemClock

    async def ask() -> list[str]:
        door = find_door(_given(ctx, "url"), _given(ctx, "address"), _state_dir(ctx))
        async with TopSource(lambda: (door, None), SystemClock()) as source:
            return [worker.id for worker in (await source.look()).workers]

    return _bounded(ask, incomplete)


def _bounded(ask: Callable[[], Coroutine[Any, Any, list[str]]], incomplete: str) -> list[str]:
    """Names that begin so; none when nobody answers in time."""

    async def within_bounds() -> list[str]:
        async with asyncio.timeout(_ASK_S_MAX):
            return await ask()

    try:
        names = asyncio.run(within_bounds())
    except Exception:  # whatever it is, a shell in the middle of a line is no place to tell it
        return []
    return [name for name in names if name.startswith(incomplete) and _is_word(name)]


def _is_word(name: str) -> bool:
    return name.isprintable() and not any(letter.isspace() for letter in name)


def _given(ctx: Any, name: str) -> str | None:
    value = ctx.params.get(name)
    return value if isinstance(value, str) else None


def _state_dir(ctx: Any) -> Path | None:
    value = ctx.params.get("state_dir") or os.environ.get("LEPTON_AGENT_STATE_DIR")
    return Path(value) if value else None


def _login_shell() -> str:
    return Path(os.environ.get("SHELL", "")).name


def _checked(shell: str) -> str:
    if shell in _SHELLS:
        return shell
    from common.errors import InvalidRequest, Reason

    raise InvalidRequest(
        f"there is no completion for {shell or 'an unknown shell'!r}; "
        f"`lepton completion SHELL` prints that of {', '.join(_SHELLS)}",
        reason=Reason.FIELD_MALFORMED,
    )


def _script(shell: str) -> str:
    from typer._completion_shared import get_completion_script

    return get_completion_script(prog_name=PROGRAM, complete_var=COMPLETE_VARIABLE, shell=shell)
