"""`lepton doctor`: each finding for what it stands."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from agent.state import StateDir
from cli import check_operators, checks
from cli.checks import run_checks
from cli.findings import Check, Finding, Verdict

Lepton = Callable[..., Result]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    return Check(env=dict(os.environ), state=StateDir(tmp_path))


def _find(check: Check, name: str) -> Finding:
    return next(one for look in checks.CHECKS if (one := look(check)).name == name)


def test_two_runtimes_in_one_environment_are_found(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}
    monkeypatch.setattr(checks, "_installed", versions.get)
    found = _find(check, "runtime")
    assert found.verdict is Verdict.FAIL
    assert "overwrite each other" in found.detail
    assert "uninstall both" in found.advice


@pytest.mark.parametrize(
    ("installed", "verdict"),
    [
        ({"onnxruntime": "1"}, Verdict.OK),
        ({"onnxruntime-gpu": "1"}, Verdict.OK),
        ({}, Verdict.FAIL),
    ],
)
def test_one_runtime_is_needed(
    check: Check, monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], verdict: Verdict
) -> None:
    monkeypatch.setattr(checks, "_installed", installed.get)
    assert _find(check, "runtime").verdict is verdict


@pytest.mark.parametrize(
    ("probe", "verdict", "said"),
    [
        ('print(\'[true, ["avx512_vnni", "avx2"]]\')', Verdict.OK, "our own, for AVX512-VNNI"),
        ("print('[false, []]')", Verdict.WARN, "not built"),
        ("print('[true, []]')", Verdict.WARN, "no AVX2"),
        ("raise SystemExit(3)", Verdict.WARN, "cannot be asked"),
        (check_operators._PROBE, None, "o"),
    ],
)
def test_whether_our_operators_compute_here_is_told(
    check: Check,
    monkeypatch: pytest.MonkeyPatch,
    probe: str,
    verdict: Verdict | None,
    said: str,
) -> None:
    monkeypatch.setattr(check_operators, "_PROBE", probe)
    found = _find(check, "operators")
    assert found.verdict is verdict or verdict is None
    assert said in found.detail
    assert (found.verdict is Verdict.OK) == found.detail.startswith("our own")


def test_a_runtime_that_cannot_be_loaded_is_told(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_PROVIDERS_PROBE", "raise ImportError('libfoo.so is missing')")
    found = _find(check, "providers")
    assert found.verdict is Verdict.FAIL
    assert found.detail.endswith("ImportError: libfoo.so is missing")


def test_a_gpu_runtime_without_cuda_is_told(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_installed", {"onnxruntime-gpu": "1.31.1"}.get)
    probe = 'print(\'["1.31.1", ["CPUExecutionProvider"], true]\')'
    monkeypatch.setattr(checks, "_PROVIDERS_PROBE", probe)
    assert _find(check, "providers").verdict is Verdict.FAIL


def test_cuda_without_a_driver_is_told(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """As onnxruntime-gpu says of itself on a machine without a GPU."""
    monkeypatch.setattr(checks, "_installed", {"onnxruntime-gpu": "1.31.1"}.get)
    offered = '["1.31.1", ["CUDAExecutionProvider", "CPUExecutionProvider"], %s]'
    for has_driver, verdict in (("false", Verdict.WARN), ("true", Verdict.OK)):
        monkeypatch.setattr(checks, "_PROVIDERS_PROBE", f"print('{offered % has_driver}')")
        found = _find(check, "providers")
        assert found.verdict is verdict
        assert ("libcuda.so.1" in found.advice) == (verdict is Verdict.WARN)


def test_a_port_in_use_is_told(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(checks, "DEFAULT_ADDRESS", address)
        found = _find(check, "ports")
    assert found.verdict is Verdict.WARN
    assert f"pid {os.getpid()}" in found.detail


@pytest.mark.parametrize(
    ("version", "old"),
    [("3.4.23", True), ("3.5.1", True), ("3.6.14", False), ("3.7.1", False), ("3.3.9", True)],
)
def test_old_etcds_are_known(version: str, old: bool) -> None:
    assert checks._is_vulnerable(version) is old


def test_no_etcd_is_no_failure(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_etcd", lambda *_: None)
    found = _find(check, "etcd")
    assert found.verdict is Verdict.WARN
    assert "directory" in found.detail


def test_every_check_has_a_name_of_its_own(check: Check) -> None:
    names = [finding.name for finding in run_checks(check)]
    assert len(set(names)) == len(names) == len(checks.CHECKS)


def test_the_exit_code_says_whether_something_fails(
    lepton: Lepton, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Finding(name="runtime", verdict=Verdict.FAIL, detail="broken", advice="mend it")
    good = Finding(name="python", verdict=Verdict.OK, detail="3.11")
    monkeypatch.setattr(checks, "CHECKS", (lambda _: good, lambda _: bad))
    done = lepton("doctor")
    assert done.exit_code == 1
    assert "mend it" in done.stdout
    done = lepton("doctor", "--json")
    assert json.loads(done.stdout)["ok"] is False
    monkeypatch.setattr(checks, "CHECKS", (lambda _: good,))
    assert lepton("doctor").exit_code == 0
