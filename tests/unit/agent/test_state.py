"""The state folder: found, locked, written, read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from agent.state import ClusterState, ProcessState, StateDir, default_state_dir, started_at
from common.errors import Conflict, Reason


def _state(**changes: object) -> ClusterState:
    values: dict[str, object] = {
        "version": "0.1.0",
        "agent_pid": os.getpid(),
        "agent_started": started_at(os.getpid()),
        "address": "127.0.0.1:50051",
        "token": SecretStr("secret"),
        "processes": (ProcessState(name="w1", pid=12, address="127.0.0.1:1"),),
        **changes,
    }
    return ClusterState.model_validate(values)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = StateDir(tmp_path)
    folder.write(_state())
    assert folder.read() == _state()


def test_the_token_is_for_the_owner_only(tmp_path: Path) -> None:
    folder = StateDir(tmp_path)
    folder.write(_state())
    folder.write(_state())
    assert stat.S_IMODE(folder.cluster_file.stat().st_mode) == 0o600
    assert "secret" not in repr(_state())


def test_a_cluster_whose_agent_is_gone_is_no_cluster(tmp_path: Path) -> None:
    folder = StateDir(tmp_path)
    folder.write(_state(agent_started=1))  # the pid was given to somebody else
    assert folder.read() is None
    folder.write(_state(agent_pid=2**22 + 1))
    assert folder.read() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}'])
def test_a_broken_file_is_no_cluster(tmp_path: Path, text: str) -> None:
    folder = StateDir(tmp_path)
    folder.cluster_file.write_text(text)
    assert folder.read() is None


def test_a_second_lock_is_refused_and_says_where_the_first_is(tmp_path: Path) -> None:
    first, second = StateDir(tmp_path), StateDir(tmp_path)
    with first.lock():
        first.write(_state())
        with pytest.raises(Conflict) as refused, second.lock():
            pass
        assert refused.value.reason is Reason.CLUSTER_RUNNING
        assert "127.0.0.1:50051" in refused.value.message
        assert "--state-dir" in refused.value.message
    with second.lock():
        pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Conflict, match="--state-dir"), StateDir(tmp_path / "file" / "x").lock():
        pass


def test_the_folder_is_for_the_owner_only(tmp_path: Path) -> None:
    """Who could write into the registry of a cluster could have its requests."""
    folder = StateDir(tmp_path / "new")
    with folder.lock():
        folder.prepare()
        for made in (folder.path, folder.registry):
            assert stat.S_IMODE(made.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["etcd", "registry"])
def test_a_folder_of_something_else_is_not_cleared(tmp_path: Path, name: str) -> None:
    precious = tmp_path / name / "precious"
    precious.parent.mkdir()
    precious.write_text("x")
    folder = StateDir(tmp_path)
    with pytest.raises(Conflict, match="--state-dir") as refused, folder.lock():
        folder.prepare()
    assert refused.value.reason is Reason.SETTING_INVALID
    assert precious.exists()
    assert not (tmp_path / "lock").exists()


def test_preparing_clears_the_old_registry_and_keeps_logs_and_traces(tmp_path: Path) -> None:
    folder = StateDir(tmp_path)
    folder.prepare()
    folder.write(_state())
    for kept in (folder.logs / "w1.log", folder.traces / "spans-x.jsonl"):
        kept.write_text("x")
    (folder.etcd).mkdir()
    (folder.etcd / "db").write_text("x")
    (folder.registry / "w1.json").write_text("{}")
    folder.prepare()
    assert not folder.etcd.exists()
    assert not folder.cluster_file.exists()
    assert list(folder.registry.iterdir()) == []
    assert (folder.logs / "w1.log").exists()
    assert (folder.traces / "spans-x.jsonl").exists()


def test_the_default_is_the_nearest_folder_then_the_checkout_then_home(tmp_path: Path) -> None:
    env = {"XDG_STATE_HOME": str(tmp_path / "xdg")}
    plain = tmp_path / "plain"
    plain.mkdir()
    assert default_state_dir(env, plain) == tmp_path / "xdg" / "lepton"

    checkout = tmp_path / "checkout"
    (checkout / "protos" / "lepton").mkdir(parents=True)
    (checkout / "docs").mkdir()
    (checkout / "pyproject.toml").write_text("")
    assert default_state_dir(env, checkout / "docs") == checkout / ".lepton"

    (checkout / "docs" / ".lepton").mkdir()
    assert default_state_dir(env, checkout / "docs") == checkout / "docs" / ".lepton"


def test_a_folder_of_another_user_is_not_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever may write to /tmp could tell everyone below it which cluster to ask."""
    (tmp_path / ".lepton").mkdir()
    env = {"XDG_STATE_HOME": str(tmp_path / "xdg")}
    assert default_state_dir(env, tmp_path) == tmp_path / ".lepton"
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert default_state_dir(env, tmp_path) == tmp_path / "xdg" / "lepton"


def test_a_relative_xdg_folder_is_ignored(tmp_path: Path) -> None:
    found = default_state_dir({"XDG_STATE_HOME": "relative"}, tmp_path)
    assert found == Path.home() / ".local" / "state" / "lepton"


def test_start_times_tell_processes_apart() -> None:
    assert started_at(os.getpid()) > 0
    assert started_at(2**22 + 1) == 0
