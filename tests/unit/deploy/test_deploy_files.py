"""The deploy files are what their tools accept: the Compose schema, the Dockerfile linter."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from pydantic import ValidationError

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = ROOT / "deploy" / "compose" / "compose.yaml"
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"


def _validate(spec: dict[str, Any]) -> None:
    compose = PyCompose.from_yaml(yaml.safe_dump(spec))
    compose.validate()
    compose.to_spec()


@pytest.fixture
def spec() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text("utf-8"))
    return loaded


def test_compose_file_follows_the_schema(spec: dict[str, Any]) -> None:
    _validate(spec)
    assert {"etcd", "router", "worker-1", "worker-2", "otel-collector", "jaeger"} == set(
        spec["services"]
    )


@pytest.mark.parametrize(
    ("service", "key", "value"),
    [
        ("router", "ports", 50051),
        ("etcd", "restart", ["always"]),
        ("worker-1", "no_such_key", "x"),
    ],
)
def test_the_schema_check_can_fail(
    spec: dict[str, Any], service: str, key: str, value: object
) -> None:
    spec["services"][service][key] = value
    with pytest.raises((ValidationError, ValueError)):
        _validate(spec)


def test_compose_publishes_on_loopback_only(spec: dict[str, Any]) -> None:
    ports = [port for service in spec["services"].values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_compose_pins_an_etcd_without_the_known_watch_hole(spec: dict[str, Any]) -> None:
    tag = spec["services"]["etcd"]["image"].rsplit(":v", 1)[1]
    assert tuple(int(part) for part in tag.split(".")) >= (3, 6, 14)


def _hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    binary = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert binary, "hadolint is missing: `make setup` installs it"
    return subprocess.run([binary, str(path)], capture_output=True, text=True, check=False)


def test_dockerfile_passes_the_linter() -> None:
    result = _hadolint(DOCKERFILE)
    assert result.returncode == 0, result.stdout


def test_the_linter_check_can_fail(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python:latest\nRUN cd /tmp && apt-get install curl\n")
    assert _hadolint(bad).returncode != 0


def test_every_image_has_its_target() -> None:
    targets = {
        line.split(" AS ")[1].strip()
        for line in DOCKERFILE.read_text("utf-8").splitlines()
        if line.startswith("FROM ")
    }
    assert {"router", "worker-cpu", "worker-gpu"} <= targets
