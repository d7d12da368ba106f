"""How cores are found and shared."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.cores import Cores, find_cores, share


@pytest.mark.parametrize(
    ("usable", "workers", "threads"),
    [
        (1, 2, (1, 1)),
        (2, 2, (1, 1)),
        (3, 2, (2, 1)),
        (4, 1, (4,)),
        (8, 2, (4, 3)),  # one is left to router and registry
        (16, 4, (4, 4, 4, 3)),
        (2, 5, (1, 1, 1, 1, 1)),
    ],
)
def test_cores_are_shared_evenly(usable: int, workers: int, threads: tuple[int, ...]) -> None:
    assert share(usable, workers) == threads


@pytest.mark.parametrize(
    ("quota", "usable"), [(None, 8), (2.0, 2), (2.5, 2), (0.3, 1), (16.0, 8), (1.999, 2)]
)
def test_a_quota_bounds_what_can_run_at_once(quota: float | None, usable: int) -> None:
    assert Cores(allowed=8, quota=quota).usable == usable


@pytest.mark.parametrize(
    ("text", "quota"),
    [("max 100000", None), ("250000 100000", 2.5), ("garbage", None), ("1 0", None)],
)
def test_the_quota_of_cgroup_2(tmp_path: Path, text: str, quota: float | None) -> None:
    (tmp_path / "cpu.max").write_text(text + "\n")
    assert find_cores(tmp_path).quota == quota


@pytest.mark.parametrize(("text", "quota"), [("-1", None), ("150000", 1.5)])
def test_the_quota_of_cgroup_1(tmp_path: Path, text: str, quota: float | None) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(text)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert find_cores(tmp_path).quota == quota


def test_no_cgroup_is_no_limit(tmp_path: Path) -> None:
    found = find_cores(tmp_path / "missing")
    assert found.quota is None
    assert found.usable >= 1
