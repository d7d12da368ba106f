"""`lepton version`."""

from __future__ import annotations

from cli.options import JsonOption
from cli.screen import write_json

__all__ = ["version"]


def version(*, as_json: JsonOption = False) -> None:
    """Print the release."""
    import platform

    from cli.screen import out
    from common.release import release

    if as_json:
        write_json({"lepton": release(), "python": platform.python_version()})
    else:
        out().print(f"lepton {release()}")
