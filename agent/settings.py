"""Settings of the node agent."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from common.settings import Section

__all__ = ["AgentSettings"]


class AgentSettings(Section):
    """Section `agent`."""

    state_dir: Path | None = None
    """Where logs, traces and the facts about the running cluster are kept. Default: `.lepton/` of the current folder or
    one above it (a checkout has its own), else `$XDG_STATE_HOME/lepton`."""
    etcd_binary: str = ""
    """Path of the etcd program. Empty: searched in PATH and beside the Python interpreter. "none": no etcd, the
    processes find each other through a directory."""
    ready_s_max: float = Field(default=120.0, gt=0)
    """Longest wait for one process to become ready, seconds."""
    drain_s_max: float = Field(default=35.0, ge=0)
    """Longest wait for a router or a worker to finish its calls when it is stopped, seconds; then it is killed."""
    stop_s_max: float = Field(default=5.0, ge=0)
    """Longest wait for etcd to stop, seconds; then it is killed."""
    restart_s_first: float = Field(default=0.2, ge=0)
    """Wait before the first restart of a process that died, seconds; it doubles with each death in a row."""
    restart_s_max: float = Field(default=10.0, ge=0)
    """Longest wait before a restart, seconds."""
    crashes_max: int = Field(default=5, ge=1)
    """A process that dies that often within `crash_window_s` is given up."""
    crash_window_s: float = Field(default=60.0, gt=0)
    """See `crashes_max`, seconds. A process that lived that long starts with `restart_s_first` again."""
    log_bytes_max: int = Field(default=16 << 20, ge=4096)
    """Size at which the log file of a process is moved aside, bytes; one earlier file is kept."""
