"""The command `lepton`, put together. Imports nothing heavy, so `--help` is quick."""

from __future__ import annotations

import io
import logging
import os
import sys
from typing import Annotated

import typer

from cli.chaos import chaos
from cli.commands import COMMANDS, TEST
from cli.completion import COMPLETE_VARIABLE, PROGRAM, install_completion, prepare_completion
from cli.help import Command, Group
from cli.screen import out

__all__ = ["app", "main"]

app = typer.Typer(
    name="lepton",
    cls=Group,
    help="Lepton: an LLM inference cluster on your own machines.",
    epilog="Exit codes: 0 it worked, 1 the call failed, 2 the command or the request is wrong, 130 interrupted. "
    "LEPTON_ADDRESS names the cluster to ask.",
    pretty_exceptions_enable=False,
    add_completion=False,  # ours guesses no shells
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in COMMANDS:
    app.command(
        cls=Command,
        rich_help_panel=command.group,
        epilog=f"Example: lepton {command.example}",
    )(command.function)
app.add_typer(chaos, rich_help_panel=TEST, epilog="Example: lepton chaos kill-worker")


@app.callback(invoke_without_command=True)
def lepton(
    ctx: typer.Context,
    *,
    install: Annotated[
        bool,
        typer.Option(
            "--install-completion",
            callback=lambda value: install_completion(wanted=value),
            is_eager=True,
            help="Complete commands, options and names at the TAB key, in the shell of $SHELL.",
        ),
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        from cli.start import welcome

        out().print(welcome())


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a sign gets a question mark instead of a stack trace.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    # The C core of gRPC writes to stderr by itself, also what is normal: a server that goes away.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    # What our libraries log (a registry that is away, say) is told by the commands in their own words.
    logging.getLogger().addHandler(logging.NullHandler())
    if COMPLETE_VARIABLE in os.environ:
        prepare_completion()
    app(prog_name=PROGRAM)


if __name__ == "__main__":
    main()
