"""What `lepton doctor` looks at. Each check is a function that returns what it found and never raises."""

from __future__ import annotations

import importlib.metadata as distributions
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from agent.cores import find_cores
from agent.etcd import find_etcd
from agent.models import choose_models
from agent.ports import is_free, owner_of
from cli.check_operators import check_operators
from cli.findings import Check, Finding, Verdict
from cli.probe import ask
from cli.target import DEFAULT_ADDRESS
from common.errors import LeptonError
from common.release import release

__all__ = ["CHECKS", "run_checks"]

_ETCD_S_MAX: Final = 30.0
_ETCD_FIXED: Final = {(3, 4): 42, (3, 5): 33, (3, 6): 14}
"""First patch release without the known vulnerabilities, for each minor."""
_DISK_BYTES_MIN: Final = 1 << 30

_PROVIDERS_PROBE: Final = """
import ctypes, json, onnxruntime
try:
    has_driver = bool(ctypes.CDLL("libcuda.so.1"))
except OSError:
    has_driver = False
print(json.dumps([onnxruntime.__version__, onnxruntime.get_available_providers(), has_driver]))
"""
"""Onnxruntime-gpu offers CUDA whether or not there is an NVIDIA driver."""


def run_checks(check: Check) -> list[Finding]:
    """All of them, in order."""
    return [look(check) for look in CHECKS]


def _lepton(_: Check) -> Finding:
    return Finding(
        name="lepton", verdict=Verdict.OK, detail=f"{release()} in {Path(__file__).parents[1]}"
    )


def _python(_: Check) -> Finding:
    detail = f"{platform.python_version()} {sys.executable}"
    return Finding(name="python", verdict=Verdict.OK, detail=detail)


def _system(_: Check) -> Finding:
    detail = f"{platform.system()} {platform.release()} {platform.machine()}"
    if platform.system() != "Linux":
        advice = "`lepton up` needs Linux; the other commands work anywhere"
        return Finding(name="system", verdict=Verdict.WARN, detail=detail, advice=advice)
    return Finding(name="system", verdict=Verdict.OK, detail=detail)


def _cores(_: Check) -> Finding:
    cores = find_cores()
    quota = "no limit" if cores.quota is None else f"limit {cores.quota:g}"
    detail = f"{cores.usable} usable ({cores.allowed} allowed, {quota} by the cgroup)"
    if cores.usable < 2:
        advice = "two or more cores make `lepton up` with two workers pleasant"
        return Finding(name="cores", verdict=Verdict.WARN, detail=detail, advice=advice)
    return Finding(name="cores", verdict=Verdict.OK, detail=detail)


def _packages(_: Check) -> Finding:
    found = {name: _installed(name) for name in ("grpcio", "protobuf", "tokenizers", "numpy")}
    missing = [name for name, number in found.items() if number is None]
    if missing:
        return Finding(
            name="packages",
            verdict=Verdict.FAIL,
            detail=f"missing: {', '.join(missing)}",
            advice="install Lepton with its dependencies: make setup, or pip install 'lepton[cpu]'",
        )
    detail = ", ".join(f"{name} {number}" for name, number in found.items())
    return Finding(name="packages", verdict=Verdict.OK, detail=detail)


def _runtime(_: Check) -> Finding:
    cpu, gpu = _installed("onnxruntime"), _installed("onnxruntime-gpu")
    if cpu and gpu:
        return Finding(
            name="runtime",
            verdict=Verdict.FAIL,
            detail=f"onnxruntime {cpu} and onnxruntime-gpu {gpu} share one folder and overwrite each other",
            advice="uninstall both, then install one: pip install 'lepton[cpu]' or 'lepton[gpu]'",
        )
    if not cpu and not gpu:
        return Finding(
            name="runtime",
            verdict=Verdict.FAIL,
            detail="ONNX Runtime is not installed",
            advice="pip install 'lepton[cpu]' or 'lepton[gpu]'",
        )
    name = f"onnxruntime {cpu}" if cpu else f"onnxruntime-gpu {gpu}"
    return Finding(name="runtime", verdict=Verdict.OK, detail=name)


def _providers(check: Check) -> Finding:
    try:
        version, providers, has_driver = ask(check, _PROVIDERS_PROBE)
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        return Finding(
            name="providers",
            verdict=Verdict.FAIL,
            detail=f"ONNX Runtime cannot be loaded: {last}",
            advice="install it again: pip install --force-reinstall onnxruntime",
        )
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
        return Finding(name="providers", verdict=Verdict.FAIL, detail=f"cannot be asked: {error}")
    names = [str(one).removesuffix("ExecutionProvider") for one in providers]
    detail = f"{', '.join(names)} (ONNX Runtime {version})"
    if _installed("onnxruntime-gpu") and "CUDA" not in names:
        return Finding(
            name="providers",
            verdict=Verdict.FAIL,
            detail=detail,
            advice="onnxruntime-gpu is installed but offers no CUDA: install it again",
        )
    if "CUDA" in names and not has_driver:
        return Finding(
            name="providers",
            verdict=Verdict.WARN,
            detail=detail,
            advice="there is no NVIDIA driver (libcuda.so.1): workers start on the CPU alone",
        )
    return Finding(name="providers", verdict=Verdict.OK, detail=detail)


def _etcd(check: Check) -> Finding:
    try:
        program = find_etcd("", check.env)
    except LeptonError as error:
        return Finding(name="etcd", verdict=Verdict.WARN, detail=error.message)
    if program is None:
        return Finding(
            name="etcd",
            verdict=Verdict.WARN,
            detail="no program found; `lepton up` uses a directory as the registry",
            advice="pip install 'lepton[local]', or put etcd into PATH",
        )
    version = _etcd_version(program, check.env)
    detail = f"{version or 'unknown version'} {program}"
    if version and _is_vulnerable(version):
        return Finding(
            name="etcd",
            verdict=Verdict.WARN,
            detail=detail,
            advice="good for one machine; on a network use 3.6.14 or newer (known vulnerabilities)",
        )
    return Finding(name="etcd", verdict=Verdict.OK, detail=detail)


def _ports(check: Check) -> Finding:
    port = int(DEFAULT_ADDRESS.rpartition(":")[2])
    running = check.state.read()
    if running is not None:
        detail = f"a cluster runs at {running.address} (pid {running.agent_pid})"
        return Finding(name="ports", verdict=Verdict.OK, detail=detail)
    if is_free("127.0.0.1", port):
        return Finding(name="ports", verdict=Verdict.OK, detail=f"{port} is free")
    return Finding(
        name="ports",
        verdict=Verdict.WARN,
        detail=f"{port} is in use by {owner_of(port) or 'another user'}",
        advice="stop that, or choose another with `lepton up --port`",
    )


def _model(_: Check) -> Finding:
    try:
        (model,) = choose_models([])
    except LeptonError as error:
        return Finding(name="demo model", verdict=Verdict.WARN, detail=error.message)
    return Finding(name="demo model", verdict=Verdict.OK, detail=str(model.folder))


def _state(check: Check) -> Finding:
    folder = check.state.path
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(there, os.W_OK):
        return Finding(
            name="state",
            verdict=Verdict.FAIL,
            detail=f"{folder} cannot be written",
            advice="choose another with --state-dir or LEPTON_AGENT_STATE_DIR",
        )
    free = shutil.disk_usage(there).free
    detail = f"{folder} ({free / (1 << 30):.1f} GiB free)"
    if free < _DISK_BYTES_MIN:
        return Finding(
            name="state", verdict=Verdict.WARN, detail=detail, advice="logs and traces need room"
        )
    return Finding(name="state", verdict=Verdict.OK, detail=detail)


def _proxy(check: Check) -> Finding:
    names = sorted(name for name in check.env if name.lower() in ("http_proxy", "https_proxy"))
    if names:
        detail = f"{', '.join(names)} set; calls inside the cluster do not use it"
        return Finding(name="proxy", verdict=Verdict.OK, detail=detail)
    return Finding(name="proxy", verdict=Verdict.OK, detail="none")


CHECKS: Final[tuple[Callable[[Check], Finding], ...]] = (
    _lepton,
    _python,
    _system,
    _cores,
    _packages,
    _runtime,
    _providers,
    check_operators,
    _etcd,
    _model,
    _ports,
    _state,
    _proxy,
)
"""In the order in which they are shown; a new check is a function and its name here."""


def _installed(name: str) -> str | None:
    try:
        return distributions.version(name)
    except distributions.PackageNotFoundError:
        return None


def _etcd_version(program: Path, env: Mapping[str, str]) -> str | None:
    try:
        done = subprocess.run(
            [str(program), "--version"],
            capture_output=True,
            text=True,
            timeout=_ETCD_S_MAX,
            env=dict(env),
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    first = done.stdout.partition("\n")[0]
    return first.rpartition(" ")[2] or None


def _is_vulnerable(version: str) -> bool:
    try:
        major, minor, patch = (int(part.partition("-")[0]) for part in version.split(".")[:3])
    except ValueError:
        return False
    fixed = _ETCD_FIXED.get((major, minor))
    return patch < fixed if fixed is not None else (major, minor) < (3, 4)
