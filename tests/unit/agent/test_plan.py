"""What is decided, and refused, before anything is started."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from agent.models import ModelChoice
from agent.plan import ClusterPlan, make_plan
from agent.roles import router_role, worker_role
from agent.settings import AgentSettings
from agent.state import StateDir
from common.cluster import ClusterSettings
from common.errors import Conflict, Reason

SETTINGS = AgentSettings(etcd_binary="none")
INSECURE = ClusterSettings(insecure=True)


def _plan(tmp_path: Path, **changes: Any) -> ClusterPlan:
    values: dict[str, Any] = {
        "state": StateDir(tmp_path),
        "settings": SETTINGS,
        "models": [ModelChoice(name="tiny", folder=tmp_path)],
        "workers": 2,
        "env": {"PATH": ""},
        **changes,
    }
    return make_plan(**values)


def test_each_model_gets_its_workers(tmp_path: Path) -> None:
    models = [ModelChoice(name=name, folder=tmp_path) for name in ("a", "b")]
    plan = _plan(tmp_path, models=models)
    assert [(w.name, w.model.name) for w in plan.workers] == [
        ("w1", "a"),
        ("w2", "a"),
        ("w3", "b"),
        ("w4", "b"),
    ]


def test_free_ports_are_chosen_where_none_is_said(tmp_path: Path) -> None:
    plan = _plan(tmp_path)
    assert plan.port > 0
    assert len({0, plan.port, plan.http_port, plan.metrics_port}) == 4
    assert plan.address == plan.advertise == f"127.0.0.1:{plan.port}"


def test_without_etcd_the_processes_share_a_directory(tmp_path: Path) -> None:
    plan = _plan(tmp_path)
    assert plan.etcd is None
    argv = worker_role(plan, plan.workers[0], SETTINGS, SecretStr("t")).spec(0).argv
    assert f"--discovery.registry-dir={tmp_path / 'registry'}" in argv


def test_an_etcd_in_the_path_is_used(tmp_path: Path) -> None:
    program = tmp_path / "etcd"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    plan = _plan(tmp_path, settings=AgentSettings(), env={"PATH": str(tmp_path)})
    assert plan.etcd is not None
    assert plan.etcd.program == program
    argv = router_role(plan, SETTINGS, SecretStr("t")).spec(0).argv
    assert f"--discovery.etcd-endpoints={plan.etcd.ports.endpoint}" in argv


def test_an_etcd_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="is not a program"):
        _plan(tmp_path, settings=AgentSettings(etcd_binary=str(tmp_path / "none-such")))


def test_each_start_of_a_worker_has_its_own_id(tmp_path: Path) -> None:
    plan = _plan(tmp_path)
    role = worker_role(plan, plan.workers[1], SETTINGS, SecretStr("t"))
    ids = [next(a for a in role.spec(n).argv if a.startswith("--id=")) for n in range(3)]
    assert ids == ["--id=w2", "--id=w2-r1", "--id=w2-r2"]


def test_the_token_is_in_no_command_line(tmp_path: Path) -> None:
    plan = _plan(tmp_path)
    token = SecretStr("very-secret")
    for role in (
        router_role(plan, SETTINGS, token),
        worker_role(plan, plan.workers[0], SETTINGS, token),
    ):
        spec = role.spec(0)
        assert not any("very-secret" in part for part in spec.argv)
        assert spec.env["LEPTON_CLUSTER_TOKEN"] == "very-secret"


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        for flag in ("port", "http_port", "metrics_port"):
            with pytest.raises(Conflict) as refused:
                _plan(tmp_path, **{flag: port})
            assert refused.value.reason is Reason.PORT_IN_USE
            assert f"--{flag.replace('_', '-')}" in refused.value.message


def test_a_bind_beyond_loopback_needs_insecure(tmp_path: Path) -> None:
    with pytest.raises(Conflict) as refused:
        _plan(tmp_path, host="0.0.0.0")
    assert refused.value.reason is Reason.BIND_NOT_ALLOWED
    plan = _plan(tmp_path, host="0.0.0.0", cluster=INSECURE, advertise="gpu-box.example")
    assert plan.address == f"127.0.0.1:{plan.port}"
    assert plan.advertise == f"gpu-box.example:{plan.port}"


def test_the_cluster_is_asked_where_it_listens(tmp_path: Path) -> None:
    """A router on one address of this machine does not answer on another."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but loopback")
        host = probe.getsockname()[0]
    plan = _plan(tmp_path, host=host, cluster=INSECURE)
    assert plan.address == plan.advertise == f"{host}:{plan.port}"


def test_metrics_are_told_where_they_are(tmp_path: Path) -> None:
    plan = _plan(tmp_path, host="0.0.0.0", cluster=INSECURE)
    assert plan.metrics_address == f"127.0.0.1:{plan.metrics_port}"


@pytest.mark.parametrize(
    ("advertise", "told"),
    [("a.example", "a.example:{}"), ("a.example:7", "a.example:7"), ("::1", "[::1]:{}")],
)
def test_an_advertised_address_gets_the_port(tmp_path: Path, advertise: str, told: str) -> None:
    plan = _plan(tmp_path, advertise=advertise)
    assert plan.advertise == told.format(plan.port)


@pytest.mark.parametrize("workers", [0, 10**9])
def test_impossible_numbers_of_workers_are_refused(tmp_path: Path, workers: int) -> None:
    with pytest.raises(Conflict, match="the range is 1 to"):
        _plan(tmp_path, workers=workers)
