"""The environment of the conversion: made once, mended when half-made, made again for other requirements.

With real environments and the real installers, whose requirements are empty or cannot be had: nothing is downloaded.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from common.errors import Conflict, Reason, Unavailable
from convert import environment
from convert.environment import REQUIREMENTS, Environment, default_environment

IMPOSSIBLE = f"--no-index\nno-such-package==1.0 --hash=sha256:{'0' * 64}\n"


@pytest.fixture(name="requirements")
def _requirements(tmp_path: Path) -> Path:
    path = tmp_path / "requirements.lock"
    path.write_text("# nothing\n")
    return path


def test_it_is_made_once(requirements: Path, tmp_path: Path) -> None:
    made = Environment(tmp_path / "env", requirements)
    assert not made.is_ready
    made.install()
    assert made.is_ready
    assert subprocess.run([made.python, "-c", ""], check=True).returncode == 0
    before = made.python.lstat().st_mtime_ns
    made.install()
    assert made.python.lstat().st_mtime_ns == before


def test_without_uv_pip_holds_the_packages_to_their_hashes(
    requirements: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "_find_uv", lambda: None)
    made = Environment(tmp_path / "env", requirements)
    venv, install = made._commands()  # a venv with pip takes seconds to make
    assert venv[1:] == ["-m", "venv", str(made.python.parents[1])]
    assert install[:4] == [str(made.python), "-m", "pip", "install"]
    assert install[-3:] == ["--require-hashes", "-r", str(requirements)]


def test_a_half_made_one_is_mended(requirements: Path, tmp_path: Path) -> None:
    made = Environment(tmp_path / "env", requirements)
    made.install()
    (tmp_path / "env" / "ready").unlink()  # as when the machine went down before the last step
    (tmp_path / "env" / "venv" / "half").write_text("")
    shutil.rmtree(tmp_path / "env" / "venv" / "bin")
    assert not made.is_ready
    made.install()
    assert made.is_ready
    assert not (tmp_path / "env" / "venv" / "half").exists()


def test_a_marker_without_an_interpreter_is_not_ready(requirements: Path, tmp_path: Path) -> None:
    made = Environment(tmp_path / "env", requirements)
    made.install()
    made.python.unlink()
    assert not made.is_ready


def test_other_requirements_make_it_again(requirements: Path, tmp_path: Path) -> None:
    Environment(tmp_path / "env", requirements).install()
    requirements.write_text("# other\n")
    made = Environment(tmp_path / "env", requirements)
    assert not made.is_ready
    made.install()
    assert made.is_ready


def test_a_failed_installation_names_its_log_and_is_not_ready(
    requirements: Path, tmp_path: Path
) -> None:
    requirements.write_text(IMPOSSIBLE)
    made = Environment(tmp_path / "env", requirements)
    with pytest.raises(Unavailable) as caught:
        made.install()
    assert caught.value.reason is Reason.TOOL_INSTALL_FAILED
    assert str(made.log) in caught.value.message
    assert "no-such-package" in made.log.read_text()
    assert not made.is_ready
    requirements.write_text("# nothing\n")
    made.install()  # and it can be mended
    assert made.is_ready


def test_somebody_elses_folder_is_left_alone(requirements: Path, tmp_path: Path) -> None:
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "venv").mkdir()
    (folder / "venv" / "file").write_text("")
    with pytest.raises(Conflict, match="not ours"):
        Environment(folder, requirements).install()
    assert (folder / "venv" / "file").exists()


def test_a_full_disk_is_told_before_the_download(
    requirements: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "DISK_BYTES", 1 << 60)
    with pytest.raises(Conflict) as caught:
        Environment(tmp_path / "env", requirements).install()
    assert caught.value.reason is Reason.DISK_SPACE_SHORT


def test_two_at_the_same_time_make_one(requirements: Path, tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def install() -> None:
        try:
            Environment(tmp_path / "env", requirements).install()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=install) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert Environment(tmp_path / "env", requirements).is_ready


def test_the_usual_place_follows_the_desktop_standard(tmp_path: Path) -> None:
    assert default_environment({"XDG_DATA_HOME": "/data"}) == Path("/data/lepton/convert")
    assert default_environment({}) == Path.home() / ".local/share/lepton/convert"
    assert default_environment({"XDG_DATA_HOME": "relative"}) == default_environment({})


def test_the_shipped_requirements_are_pinned_with_hashes() -> None:
    text = REQUIREMENTS.read_text("utf-8")
    pins = set(re.findall(r"^([a-z0-9._-]+)==\S+", text, re.MULTILINE))
    assert {"torch", "transformers", "onnxruntime-genai", "onnx-ir"} <= pins
    assert text.count("--hash=sha256:") >= len(pins)
