"""What was saved is read back; anything else is nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.discovery.api import InstanceState, Snapshot
from common.discovery.snapshot_file import SnapshotFile
from tests.support.instances import make_instance
from tests.support.manual_clock import ManualClock

TWO = {
    "w1": make_instance("w1", state=InstanceState.DRAINING),
    "w2": make_instance("w2", model="Größe"),
}


@pytest.fixture
def file(tmp_path: Path) -> SnapshotFile:
    return SnapshotFile(tmp_path / "state" / "snapshot.json", ManualClock(wall=1_800_000_000.0))


def test_what_was_saved_is_read_back_as_stale(file: SnapshotFile, tmp_path: Path) -> None:
    file.save(Snapshot(instances=TWO, problems={"bad": "not JSON"}))
    assert file.load() == Snapshot(instances=TWO, stale=True)
    saved = json.loads((tmp_path / "state" / "snapshot.json").read_text())
    assert saved["saved_at"] == 1_800_000_000.0
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["snapshot.json"]


def test_the_newer_replaces_the_older(file: SnapshotFile) -> None:
    file.save(Snapshot(instances=TWO))
    file.save(Snapshot(instances={}))
    assert file.load() == Snapshot(instances={}, stale=True)


def test_nothing_saved_is_nothing(file: SnapshotFile) -> None:
    assert file.load() is None


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[]", b"{}", b'{"instances": {}}', b'{"instances": [{}]}', b"[" * 99999],
)
def test_a_file_that_is_no_snapshot_is_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "snapshot.json"
    path.write_bytes(content)
    assert SnapshotFile(path, ManualClock()).load() is None


def test_a_place_that_cannot_be_written_is_told_not_raised(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    SnapshotFile(tmp_path / "file" / "snapshot.json", ManualClock()).save(Snapshot(instances=TWO))
    assert caplog.messages == ["discovery.snapshot_not_saved"]
