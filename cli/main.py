"""The command `lepton`: one file per command, put together here. Imports nothing heavy, so `--help` is quick."""

from __future__ import annotations

import io
import logging
import os
import sys

import typer

from cli.bench.command import bench
from cli.chaos import chaos
from cli.chat import chat
from cli.convert import convert
from cli.doctor import doctor
from cli.generate import generate
from cli.models import models
from cli.ps import ps
from cli.quantize import quantize
from cli.route import route
from cli.trace import trace
from cli.up import up
from cli.version import version

__all__ = ["app", "main"]

app = typer.Typer(
    name="lepton",
    help="Lepton: an LLM inference cluster on your own machines.",
    epilog="Exit codes: 0 it worked, 1 the call failed, 2 the command or the request is wrong, 130 interrupted. "
    "LEPTON_ADDRESS names the cluster to ask.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    up, generate, chat, ps, models, route, trace, bench, convert, quantize, doctor, version,
):  # fmt: skip
    app.command()(command)
app.add_typer(chaos)


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
    app()


if __name__ == "__main__":
    main()
