"""The deploy files are what their tools accept: the Compose schema, the Dockerfile linter."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from pydantic import ValidationError

from common.errors import Conflict
from common.settings import load
from router.process import PROCESS as ROUTER
from worker.app import PROCESS as WORKER

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


def _image_env(target: str) -> dict[str, str]:
    """`ENV NAME=VALUE …` of a stage of the Dockerfile."""
    _, _, stage = DOCKERFILE.read_text("utf-8").partition(f" AS {target}\n")
    stage = stage.partition("\nFROM ")[0]
    pairs = [line.removeprefix("ENV ") for line in stage.splitlines() if line.startswith("ENV ")]
    return dict(pair.split("=", 1) for line in pairs for pair in line.split())


def _settings(target: str, env: dict[str, str]) -> dict[str, Any]:
    process = ROUTER if target == "router" else WORKER
    return load(process.sections, env={"LEPTON_WORKER_MODEL_DIR": "/model", **env})


@pytest.mark.parametrize("target", ["router", "worker-cpu", "worker-gpu"])
def test_the_health_check_asks_the_port_where_the_image_tells_its_metrics(target: str) -> None:
    section = target.partition("-")[0]
    port = _settings(target, _image_env(target))[section].metrics_port
    assert f"http://127.0.0.1:{port}/livez" in DOCKERFILE.read_text("utf-8")


def test_the_variables_of_the_compose_file_are_settings(spec: dict[str, Any]) -> None:
    """A name that is none is refused: the container would never start."""
    for name in ("router", "worker-1", "worker-2"):
        service = spec["services"][name]
        target = service["build"]["target"]
        settings = _settings(target, {**_image_env(target), **service["environment"]})
        section = settings[target.partition("-")[0]]
        assert section.metrics_port == 8081
        assert settings["discovery"].etcd_endpoints == ("etcd:2379",)
        assert settings["cluster"].token.get_secret_value()
    with pytest.raises(Conflict):
        _settings("router", {"LEPTON_ROUTER_NO_SUCH": "1"})


def test_the_model_of_the_compose_file_is_where_the_wheel_puts_it(spec: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    ((place, files),) = project["tool"]["setuptools"]["data-files"].items()
    assert spec["services"]["worker-1"]["command"] == ["--model-dir", f"/opt/lepton/{place}"]
    listed = subprocess.run(
        ["git", "ls-files", "models/demo"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert sorted(files) == sorted(name for name in listed if name.count("/") == 2)


def test_every_image_has_its_target() -> None:
    targets = {
        line.split(" AS ")[1].strip()
        for line in DOCKERFILE.read_text("utf-8").splitlines()
        if line.startswith("FROM ")
    }
    assert {"router", "worker-cpu", "worker-gpu"} <= targets
