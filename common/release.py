"""Which release of Lepton this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["release"]


def release() -> str:
    """For example "0.1.0"; "0.0.0" in a checkout that nobody installed."""
    try:
        return version("lepton")
    except PackageNotFoundError:
        return "0.0.0"
