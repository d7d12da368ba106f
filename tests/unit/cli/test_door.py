"""Which HTTP door is asked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.state import ClusterState, StateDir, started_at
from cli.door import find_door
from common.errors import Conflict, Unavailable


def _running(folder: Path, http_address: str) -> None:
    folder.mkdir(exist_ok=True)
    StateDir(folder).write(
        ClusterState(
            version="0",
            agent_pid=os.getpid(),
            agent_started=started_at(os.getpid()),
            address="127.0.0.1:6001",
            http_address=http_address,
        )
    )


def test_the_url_then_the_running_cluster_then_the_port_beside(tmp_path: Path) -> None:
    none = tmp_path / "none"
    assert str(find_door("http://x:1/v1", "y:50051", none)) == "http://x:1"
    assert str(find_door(None, None, none)) == "http://127.0.0.1:8080"
    assert str(find_door(None, "y:50051", none)) == "http://y:8080"
    with pytest.raises(Conflict, match="--url"):
        find_door(None, "y:6001", none)
    _running(tmp_path, "127.0.0.1:6002")
    assert str(find_door(None, None, tmp_path)) == "http://127.0.0.1:6002"
    assert str(find_door(None, "127.0.0.1:6001", tmp_path)) == "http://127.0.0.1:6002"
    assert str(find_door(None, "y:50051", tmp_path)) == "http://y:8080"


def test_a_cluster_without_a_door(tmp_path: Path) -> None:
    _running(tmp_path, "")
    with pytest.raises(Unavailable, match="no HTTP door"):
        find_door(None, None, tmp_path)
