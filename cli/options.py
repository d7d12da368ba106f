"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "AddressOption",
    "BlockSizeOption",
    "ConfigOption",
    "JsonOption",
    "MadeFolder",
    "StateDirOption",
]

AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        "-a",
        metavar="HOST:PORT",
        envvar="LEPTON_ADDRESS",
        show_default=False,
        help="Router or worker to ask. Default: the cluster of `lepton up`, else 127.0.0.1:50051.",
    ),
]

StateDirOption = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        metavar="DIR",
        envvar="LEPTON_AGENT_STATE_DIR",
        show_default=False,
        help="State folder of `lepton up`. Default: .lepton here or above, else ~/.local/state/lepton.",
    ),
]

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="LEPTON_CONFIG",
        show_default=False,
        help="Settings for all processes (TOML).",
    ),
]

BlockSizeOption = Annotated[
    int | None,
    typer.Option(show_default="128", help="Weights that share a scale: 16, 32, 64, 128 or 256."),
]

MadeFolder = Annotated[
    Path, typer.Argument(metavar="OUT", show_default=False, help="Folder to make.")
]

JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout instead of text.")]
