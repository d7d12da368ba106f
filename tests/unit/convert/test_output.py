"""A result is there whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from common.errors import Conflict, Reason
from convert.output import check_output, check_room, scratch_for


def test_a_result_takes_its_place_at_once_and_nothing_else_is_left(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with scratch_for(out) as scratch:
        scratch.result.mkdir()
        (scratch.result / "model.onnx").write_text("graph")
        scratch.log.write_text("a tool spoke")
        assert not out.exists()
        scratch.publish()
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert (out / "model.onnx").read_text() == "graph"


def test_an_empty_folder_gives_way(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    check_output(out)
    with scratch_for(out) as scratch:
        scratch.result.mkdir()
        (scratch.result / "a").write_text("")
        scratch.publish()
    assert (out / "a").exists()


def test_after_a_failure_only_the_log_is_left(tmp_path: Path) -> None:
    def fail() -> None:
        with scratch_for(tmp_path / "out") as scratch:
            scratch.result.mkdir()
            scratch.log.write_text("why")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["out.log"]


def test_what_a_killed_run_left_is_removed_and_what_works_is_not(tmp_path: Path) -> None:
    dead, foreign = tmp_path / ".out.dead", tmp_path / ".out.d"
    for folder in (dead, foreign):
        folder.mkdir()
        (folder / "weights").write_text("large")
    (dead / "lock").touch()
    with scratch_for(tmp_path / "out") as first, scratch_for(tmp_path / "out") as second:
        assert first.folder.exists()
        assert second.folder.exists()
        assert not dead.exists()
    assert list(tmp_path.iterdir()) == [foreign]


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("")
    for name in ("file", "full"):
        with pytest.raises(Conflict) as caught:
            check_output(tmp_path / name)
        assert caught.value.reason is Reason.OUTPUT_EXISTS
    check_output(tmp_path / "new")


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(Conflict, match="MB are needed") as caught:
        check_room(tmp_path / "not" / "there" / "yet", free)
    assert caught.value.reason is Reason.DISK_SPACE_SHORT
    check_room(tmp_path / "out", 1000)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(Conflict, match="cannot be written"),
        scratch_for(tmp_path / "file" / "out"),
    ):
        pass
