"""`lepton up` as a newcomer meets it: it answers, it mends itself, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import uuid
from pathlib import Path

import pytest

from cli.bench.measure import Sample
from cli.bench.run import Load, run_load
from cli.bench.workload import Workload
from cli.request import GenerateOptions
from common.clock import SystemClock
from tests.support.lepton_up import ANY_PORTS, LeptonUp, lepton, lepton_up, marked, start_lepton
from tests.support.processes import until

pytestmark = [pytest.mark.e2e]

QUESTION, ANSWER = "What is Lepton?", "inference cluster"


async def _serving(up: LeptonUp) -> list[str]:
    """Ids of the workers that `lepton ps` shows as serving."""
    done = await up.run("ps", "--json")
    return [row["id"] for row in done.json["workers"] if row["state"] == "serving"]


async def _until_serving(up: LeptonUp, ids: list[str]) -> None:
    async def seen() -> bool:
        return await _serving(up) == ids

    await until(seen, what=f"lepton ps shows {ids}")


@pytest.mark.etcd
async def test_a_first_answer_with_its_trace_and_then_nothing_is_left(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    done = await lepton("up", *ANY_PORTS, "--once", QUESTION, state=tmp_path, mark=mark)
    assert done.code == 0, done.stderr
    assert ANSWER in done.stdout
    for word in ("registry", "w1", "w2", "front door", "lepton.prefill", "tokens/s"):
        assert word in done.stdout
    assert done.stderr == ""
    assert marked(mark) == []
    assert not (tmp_path / "cluster.json").exists()


@pytest.mark.etcd
async def test_a_running_cluster_answers_every_command_and_ends_on_ctrl_c(tmp_path: Path) -> None:
    async with lepton_up(tmp_path) as up:
        await up.until_ready()

        asked = await up.run("generate", QUESTION)
        assert asked.code == 0, asked.stderr
        assert ANSWER in asked.stdout
        chatted = await lepton("chat", state=tmp_path, text=f"{QUESTION}\n")
        assert ANSWER in chatted.stdout
        assert await _serving(up) == ["w1", "w2"]
        listed = await up.run("models", "--json")
        assert [one["num_workers"] for one in listed.json["models"]] == [2]
        await _one_trace_over_router_and_worker(up)
        await _others_are_refused(up, tmp_path)

        token = up.state.token.get_secret_value()
        assert not any(token in line for line in marked(up.mark))
        code = await up.interrupt()
        assert code == 0
        assert up.events[-1] == {"event": "cluster.stopped"}
        assert marked(up.mark) == []
        assert up.other == []
    assert not (tmp_path / "cluster.json").exists()


async def _one_trace_over_router_and_worker(up: LeptonUp) -> None:
    asked = await up.run("generate", QUESTION, "--json")
    trace_id = asked.json["summary"]["trace_id"]

    async def services() -> bool:
        traced = await up.run("trace", trace_id, "--json")
        spans = traced.json.get("spans", [])
        whole = {span["service"] for span in spans} == {"lepton-router", "lepton-worker"}
        return whole and {span["trace_id"] for span in spans} == {trace_id}

    await until(services, what="one trace over router and worker")


async def _others_are_refused(up: LeptonUp, folder: Path) -> None:
    again = await lepton("up", *ANY_PORTS, state=folder)
    assert again.code == 2
    assert "(CLUSTER_RUNNING)" in again.stderr
    port = up.state.address.rpartition(":")[2]
    other = await lepton("up", f"--port={port}", state=folder / "other")
    assert other.code == 2
    assert f"port {port} on 127.0.0.1 is in use by" in other.stderr
    assert "(PORT_IN_USE)" in other.stderr
    assert "--port" in other.stderr


@pytest.mark.etcd
async def test_what_is_killed_comes_back(tmp_path: Path) -> None:
    async with lepton_up(tmp_path) as up:
        await up.until_ready()

        os.kill(up.pid("w1"), signal.SIGKILL)
        assert ANSWER in (await up.run("generate", QUESTION)).stdout  # the other one answers
        await until(lambda: len(up.named("process.ready", "w1")) == 2, what="w1 is back")
        assert up.named("process.ended", "w1")[0]["text"] == "killed by SIGKILL"
        await _until_serving(up, ["w1-r1", "w2"])

        await _twenty_streams_do_not_miss_etcd(up)
        await _until_serving(up, ["w1-r1", "w2"])

        os.kill(up.pid("router"), signal.SIGKILL)
        await until(
            lambda: len(up.named("process.ready", "router")) == 2,
            what="router is back",
        )
        assert ANSWER in (await up.run("generate", QUESTION)).stdout

        assert await up.interrupt(signal.SIGTERM) == 0
        assert marked(up.mark) == []


async def _twenty_streams_do_not_miss_etcd(up: LeptonUp) -> None:
    load = Load(
        requests=60,
        concurrency=20,
        workload=Workload(max_tokens=64),
        options=GenerateOptions(ignore_eos=True),
    )
    samples: list[Sample] = []

    def on_sample(sample: Sample) -> None:
        samples.append(sample)
        if len(samples) == 1:  # twenty are on their way, and forty are yet to come
            os.kill(up.pid("etcd"), signal.SIGKILL)

    await run_load(up.state.address, load, SystemClock(), on_sample=on_sample)
    assert [one.error for one in samples] == [""] * 60
    assert all(one.completion_tokens == 64 for one in samples)
    await until(lambda: len(up.named("process.ready", "etcd")) == 2, what="etcd is back")


@pytest.mark.etcd
async def test_ps_says_when_the_registry_does_not_answer(tmp_path: Path) -> None:
    async with lepton_up(tmp_path, "--workers=1") as up:
        await up.until_ready()
        os.kill(up.pid("etcd"), signal.SIGSTOP)
        try:
            seen = (await up.run("ps", "--json")).json
        finally:
            os.kill(up.pid("etcd"), signal.SIGCONT)
        assert seen["registry"]["answers"] is False
        assert seen["router"]["answers"] is True
        assert [(row["id"], row["state"]) for row in seen["workers"]] == [("w1", "serving")]
        assert await up.interrupt() == 0


async def test_killing_the_agent_takes_everything_with_it(tmp_path: Path) -> None:
    async with lepton_up(tmp_path, "--workers=1") as up:
        await up.until_ready()
        assert len(marked(up.mark)) >= 3
        up.process.kill()
        await up.until_gone()
        # What it left does not deceive the next command, nor the next start.
        done = await up.run("ps", "--json", "-a", "127.0.0.1:1")
        assert done.code == 1
        again = await lepton("up", *ANY_PORTS, "--workers=1", "--once", QUESTION, state=tmp_path)
        assert again.code == 0, again.stderr


async def test_without_etcd_a_directory_is_the_registry(tmp_path: Path) -> None:
    async with lepton_up(tmp_path, "--etcd=none", "--workers=1") as up:
        await up.until_ready()
        (ready,) = up.named("cluster.ready")
        assert ready["registry"] == str(tmp_path / "registry")
        assert await _serving(up) == ["w1"]
        assert not any("listen-client-urls" in line for line in marked(up.mark))
        assert await up.interrupt() == 0


async def test_ctrl_c_during_the_start_leaves_nothing(tmp_path: Path) -> None:
    async with lepton_up(tmp_path, "--etcd=none", "--workers=1") as up:
        await until(lambda: bool(up.named("process.starting", "w1")), what="started")
        assert await up.interrupt() == 130
        assert marked(up.mark) == []


async def test_a_second_ctrl_c_does_not_wait_for_calls(tmp_path: Path) -> None:
    async with lepton_up(tmp_path, "--etcd=none", "--workers=1") as up:
        await up.until_ready()
        asking = await start_lepton(
            *("generate", QUESTION, "--ignore-eos", "--max-tokens", "900", "-n", "8", "--json"),
            state=tmp_path,
        )
        assert asking.stdout is not None
        assert b"started" in await asking.stdout.readline()
        os.kill(up.pid("w1"), signal.SIGSTOP)  # the call can never end
        up.process.send_signal(signal.SIGINT)
        await until(lambda: bool(up.named("cluster.stopping")), what="it stops")
        assert await up.interrupt() == 0
        assert marked(up.mark) == []
        _, told = await asking.communicate()
        assert asking.returncode == 1, told


async def test_a_model_that_cannot_be_served_ends_the_start_with_its_reason(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "genai_config.json").write_text("{}")
    mark = uuid.uuid4().hex
    done = await lepton(
        "up", "--port=0", f"--model={model}", "--json", state=tmp_path / "state", mark=mark
    )
    assert done.code == 2
    (error,) = [json.loads(line)["error"] for line in done.stdout.splitlines() if '"error"' in line]
    assert error["reason"].startswith("MODEL_")
    assert marked(mark) == []


@pytest.mark.parametrize("flag", ["--metrics-port", "--http-port"])
async def test_a_port_in_use_is_refused_only_when_it_was_asked_for(
    tmp_path: Path, flag: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = await lepton("up", *ANY_PORTS, f"{flag}={port}", state=tmp_path)
    assert done.code == 2
    assert flag in done.stderr


async def test_a_load_on_a_cluster_of_its_own(tmp_path: Path) -> None:
    """`make bench-cluster`: open loop, lengths in tokens of the model's own tokenizer, some clients that go away."""
    mark = uuid.uuid4().hex
    process = await start_lepton(
        *("--workers=1", "--rate=50", "--requests=12", "--prompt-tokens=uniform:8-24", "--json"),
        *("--shared-prefix-tokens=64", "--output-tokens=12", "--cancel-share=0.3", "--seed=4"),
        *("--slo=ttft=30s", f"--report={tmp_path / 'report.html'}"),
        module="loadtest",
        state=tmp_path,
        mark=mark,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err
    (report,) = json.loads(out)["reports"]
    assert (report["requests"], report["failed"]) == (12, 0)
    assert 0 < report["cancelled"] < 12
    assert report["slo_share"] == pytest.approx(1 - report["cancelled"] / 12)
    assert 12 * 72 <= report["prompt_tokens"] <= 12 * 88
    assert report["tokens_per_s"] > 0
    assert "Requests in flight, 50 per second" in (tmp_path / "report.html").read_text("utf-8")
    assert marked(mark) == []
