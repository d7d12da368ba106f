"""`lepton chaos kill-worker` on a cluster that somebody runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.lepton_up import lepton, lepton_up

pytestmark = [pytest.mark.chaos, pytest.mark.e2e, pytest.mark.etcd]


async def test_a_worker_of_a_running_cluster_is_killed_and_the_ledger_is_clean(
    tmp_path: Path,
) -> None:
    async with lepton_up(tmp_path, "--oracle") as up:
        await up.until_ready()
        done = await up.run("chaos", "kill-worker", "--streams", "8", "--tokens", "60", "--json")
    assert done.code == 0, done.stdout
    outcome = done.json
    assert outcome["verdict"] == "pass", outcome
    assert outcome["measures"]["moved"] > 0
    assert len(outcome["injections"]) == 1


async def test_without_a_cluster_it_says_what_to_do(tmp_path: Path) -> None:
    done = await lepton("chaos", "kill-worker", state=tmp_path, mark="none")
    assert done.code == 1
    assert "lepton up" in done.stderr
