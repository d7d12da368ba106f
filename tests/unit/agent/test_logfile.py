"""Log files do not grow without end."""

from __future__ import annotations

from pathlib import Path

from agent.logfile import LogFile


def test_a_full_file_is_moved_aside_and_one_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "w1.log"
    log = LogFile(path, bytes_max=100)
    for number in range(100):
        log.write(f"line {number:03}".encode())
    log.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["w1.log", "w1.log.1"]
    assert all(file.stat().st_size <= 100 for file in path.parent.iterdir())
    assert path.read_text().splitlines()[-1] == "line 099"


def test_a_restart_appends(tmp_path: Path) -> None:
    for word in (b"one", b"two"):
        log = LogFile(tmp_path / "x.log", bytes_max=4096)
        log.write(word)
        log.close()
    assert (tmp_path / "x.log").read_text() == "one\ntwo\n"


def test_a_full_disk_costs_lines_only() -> None:
    log = LogFile(Path("/dev/full"), bytes_max=4096)
    log.write(b"lost")
    log.close()
