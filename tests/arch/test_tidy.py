"""The repository keeps its own house rules."""

from __future__ import annotations

import re
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    *("common", "gateway", "router", "worker", "convert", "agent", "chaos", "cli", "loadtest"),
    "clients/python/src",
)
LINES_MAX = 400


def _sources() -> list[Path]:
    return [
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if "gen" not in path.relative_to(ROOT).parts
    ]


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name]


def test_there_are_sources_to_check() -> None:
    assert len(_sources()) > 50


def test_files_hold_one_idea() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in _sources()
        if (lines := len(path.read_text("utf-8").splitlines())) > LINES_MAX
    }
    assert long == {}


def test_nothing_is_called_utils() -> None:
    assert [p for p in _sources() if p.stem in {"utils", "util", "helpers", "misc"}] == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in _sources()
        if not path.read_text("utf-8").lstrip().startswith(('"""', 'r"""'))
    ]
    assert silent == []


def test_no_left_overs() -> None:
    pattern = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    found = [
        str(path.relative_to(ROOT))
        for path in _sources()
        if pattern.search(path.read_text("utf-8"))
    ]
    assert found == []


def test_tracked_files_name_no_home_of_one_machine() -> None:
    pattern = re.compile(r"(?<![\w.])/(?:root|home/\w+|Users/\w+)/")
    found = [
        str(path.relative_to(ROOT))
        for path in _tracked()
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".json", ".jsonl", ".proto", ""}
        and path.is_file()
        and pattern.search(path.read_text("utf-8", errors="ignore"))
    ]
    assert found == []


def test_only_our_distribution_owns_our_import_names() -> None:
    owners = metadata.packages_distributions()
    for name in (
        "common",
        "gateway",
        "router",
        "worker",
        "convert",
        "agent",
        "chaos",
        "cli",
        "lepton",
    ):
        assert set(owners.get(name, ["lepton"])) == {"lepton"}, name


@pytest.mark.parametrize("lock", ["base", "bootstrap", "cpu", "gpu", "local", "dev"])
def test_locks_have_hashes_and_one_onnxruntime(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.lock").read_text("utf-8")
    pins = re.findall(r"^([a-z0-9._-]+)==\S+", text, re.MULTILINE)
    assert pins
    assert text.count("--hash=sha256:") >= len(pins)
    assert not {"onnxruntime", "onnxruntime-gpu"} <= set(pins)
