"""Which cluster a command means."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.state import ClusterState, StateDir, default_state_dir

__all__ = ["DEFAULT_ADDRESS", "Target", "find_state_dir", "find_target"]

DEFAULT_ADDRESS: Final = "127.0.0.1:50051"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A cluster, as far as this machine knows it."""

    address: str
    """host:port to call."""
    state: ClusterState | None
    """What `lepton up` left, when the cluster is the one that runs from the state folder."""


def find_state_dir(given: Path | None) -> StateDir:
    """The folder that was named, else the default."""
    return StateDir(given or default_state_dir(os.environ, Path.cwd()))


def find_target(address: str | None, state_dir: Path | None) -> Target:
    """The named address, else the running cluster of the state folder, else the default port."""
    state = find_state_dir(state_dir).read()
    if address is None:
        return Target(address=state.address if state else DEFAULT_ADDRESS, state=state)
    return Target(address=address, state=state if state and state.address == address else None)
