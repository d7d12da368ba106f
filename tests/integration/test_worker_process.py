"""`python -m worker` from outside: ready line, one Generate, signals, and starts that are refused."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest

from common.process import run_process
from lepton.v1 import inference_pb2, types_pb2
from tests.support.patience import PATIENCE_S
from tests.support.processes import Answer, LeptonProcess, ask, until
from tests.support.tiny_models import (
    TINY_LLAMA,
    TINY_LLAMA_INT4_BLOCK64,
    copy_model,
    edit_json,
    golden_cases,
)
from worker.app import PROCESS

Start = Callable[..., LeptonProcess]


@pytest.fixture
async def worker() -> AsyncIterator[Start]:
    """Makes worker processes and ends those that a test leaves."""
    async with AsyncExitStack() as stack:

        def make(**flags: object) -> LeptonProcess:
            process = LeptonProcess(
                "worker",
                {"model_dir": TINY_LLAMA, "model_name": "tiny", "port": 0, "threads": 1, **flags},
            )
            stack.push_async_callback(process.stop)
            return process

        yield make


async def refusal(process: LeptonProcess) -> str:
    """The one line with which a process refused to start."""
    await process.start(wait=False)
    assert await process.wait() == 2
    errors = [line for line in process.lines if line.startswith("error: ")]
    assert len(errors) == 1, process.lines
    assert not any("Traceback" in line for line in process.lines)
    return errors[0]


def a_request(max_tokens: int | None = None) -> inference_pb2.GenerateRequest:
    case = golden_cases("tiny-llama")[1]
    return inference_pb2.GenerateRequest(
        text=case["prompt"],
        stop=types_pb2.StopConditions(
            max_tokens=max_tokens or len(case["greedy_ids"]), ignore_eos=True
        ),
    )


async def test_serves_tells_its_state_and_leaves_with_0_on_sigterm(worker: Start) -> None:
    process = await worker(id="w1").start()
    assert process.ready["worker_id"] == "w1"
    async with grpc.aio.insecure_channel(process.address) as channel:
        answer = await ask(channel, a_request())
    assert answer.whole
    assert answer.token_ids == golden_cases("tiny-llama")[1]["greedy_ids"]
    metrics = str(process.ready["metrics_address"])
    assert json.loads(await get(metrics, "/readyz")) == {"ready": True}
    assert 'lepton_requests_total{code="OK",model="tiny"} 1.0' in await get(metrics, "/metrics")
    process.terminate()
    assert await process.wait() == 0
    assert not any('"level":"error"' in line for line in process.lines)


async def get(address: str, path: str) -> str:
    def read() -> str:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=PATIENCE_S) as response:
            return response.read().decode()

    return await asyncio.to_thread(read)


async def running_calls(channel: grpc.aio.Channel, number: int) -> list[asyncio.Task[Answer]]:
    """Long calls, each of which has its first token."""
    begun = [asyncio.Event() for _ in range(number)]
    calls = [
        asyncio.ensure_future(
            ask(channel, a_request(max_tokens=240), on_event=lambda _, event=event: event.set())
        )
        for event in begun
    ]
    for event in begun:
        await event.wait()
    return calls


async def test_sigint_finishes_what_runs(worker: Start) -> None:
    process = await worker().start()
    async with grpc.aio.insecure_channel(process.address) as channel:
        calls = await running_calls(channel, 8)
        assert process.process is not None
        process.process.send_signal(signal.SIGINT)
        answers = await asyncio.gather(*calls)
    for answer in answers:
        assert answer.whole, answer.error
        assert len(answer.token_ids) == 240
    assert await process.wait() == 0


async def test_a_second_signal_ends_it_at_once(worker: Start) -> None:
    process = await worker(drain_s_max=600).start()
    async with grpc.aio.insecure_channel(process.address) as channel:
        calls = await running_calls(channel, 16)
        calls += [
            asyncio.ensure_future(ask(channel, a_request(max_tokens=240))) for _ in range(100)
        ]
        process.terminate()
        await until(
            lambda: any("worker.draining" in line for line in process.lines),
            what="draining",
        )
        process.terminate()
        assert await process.wait() in (0, 1)  # 0: it was faster than the signal
        await asyncio.gather(*calls)


async def test_an_id_that_a_living_worker_has_is_refused(worker: Start, tmp_path: Path) -> None:
    flags = {"id": "w1", "discovery.registry-dir": tmp_path}
    first = await worker(**flags).start()
    line = await refusal(worker(**flags))
    assert "WORKER_ID_TAKEN" in line
    assert "w1" in line
    first.terminate()
    assert await first.wait() == 0
    again = await worker(**flags).start()
    again.terminate()
    assert await again.wait() == 0


async def test_an_etcd_that_is_not_there_is_no_reason_not_to_serve(worker: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    process = await worker(**{"discovery.etcd-endpoints": f"127.0.0.1:{port}"}).start()
    async with grpc.aio.insecure_channel(process.address) as channel:
        assert (await ask(channel, a_request())).whole
    process.terminate()
    assert await process.wait() == 0


def refused(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """The one line with which a worker, run inside this process, refuses to start."""
    assert run_process(PROCESS, ["--threads", "1", *flags], {}) == 2
    captured = capsys.readouterr().err
    (line,) = [line for line in captured.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in captured
    return line


@pytest.mark.parametrize("flag", ["--port", "--metrics-port"])
def test_a_port_in_use_is_refused(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        flags = {"--port": "0", "--model-dir": str(TINY_LLAMA), flag: port}
        line = refused(capsys, *(text for pair in flags.items() for text in pair))
    assert "PORT_IN_USE" in line
    assert port in line


@pytest.mark.parametrize(
    ("break_it", "reason", "file"),
    [
        (lambda folder: (folder / "model.onnx").unlink(), "MODEL_FILE_MISSING", "model.onnx"),
        (
            lambda folder: (folder / "tokenizer.json").write_text('{"cut'),
            "MODEL_TOKENIZER_INVALID",
            "tokenizer.json",
        ),
        (
            lambda folder: edit_json(
                folder / "genai_config.json", {"model.decoder.num_hidden_layers": 9}
            ),
            "MODEL_GRAPH_UNSUPPORTED",
            "model.onnx",
        ),
        (shutil.rmtree, "MODEL_FILE_MISSING", "model"),
        (
            lambda folder: (folder / "tokenizer.json").unlink(),
            "MODEL_FILE_MISSING",
            "tokenizer.json",
        ),
        (
            lambda folder: (folder / "model.onnx.data").write_bytes(b"cut"),
            "MODEL_FILE_INVALID",
            "model.onnx",
        ),
    ],
    ids=[
        "no graph",
        "tokenizer cut off",
        "other graph",
        "no folder",
        "no tokenizer",
        "weights cut off",
    ],
)
def test_a_broken_model_folder_is_refused_with_file_and_fault(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    break_it: Callable[[Path], object],
    reason: str,
    file: str,
) -> None:
    folder = copy_model(TINY_LLAMA, tmp_path / "model")
    break_it(folder)
    line = refused(capsys, "--model-dir", str(folder), "--port", "0")
    assert reason in line
    assert file in line


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--rows-maxx", "3"], "rows_maxx"),
        (["--port", "70000"], "worker.port"),
        (["--host", "0.0.0.0"], "BIND_NOT_ALLOWED"),
        (["--host", "0.0.0.0", "--cluster.insecure"], "worker.advertise"),
        (["--id", "a/b", "--port", "0"], "a/b"),
        (["--config", "/no/such/file.toml"], "/no/such/file.toml"),
        (["stray"], "stray"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(
    capsys: pytest.CaptureFixture[str], flags: list[str], told: str
) -> None:
    assert told in refused(capsys, "--model-dir", str(TINY_LLAMA), *flags)


@pytest.mark.parametrize(
    ("flags", "reason", "told"),
    [
        (
            ["--kernels", "portable", "--prefill-int8", "false"],
            "MODEL_GRAPH_UNSUPPORTED",
            "mode exact needs prefill_int8",
        ),
        (["--provider", "cuda"], "PROVIDER_UNAVAILABLE", "'cuda'"),
        (["--device-id", "1"], "SETTING_INVALID", "mean nothing to worker.provider cpu"),
    ],
)
def test_settings_that_contradict_the_model_are_refused(
    capsys: pytest.CaptureFixture[str], flags: list[str], reason: str, told: str
) -> None:
    """On ONNX Runtime's operators large blocks keep what `exact` promises only as integers."""
    line = refused(capsys, "--model-dir", str(TINY_LLAMA_INT4_BLOCK64), "--port", "0", *flags)
    assert reason in line
    assert told in line


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_process(PROCESS, ["--help"], {}) == 0
    text = capsys.readouterr().out
    for name, section in PROCESS.sections.items():
        for key in section.model_fields:
            flag = key if name == "worker" else f"{name}.{key}"
            assert f"--{flag.replace('_', '-')} " in text


def test_onnxruntime_reports_to_nobody(tmp_path: Path) -> None:
    """It would keep what it reports in a file of the home folder; with the variable at 0 it does."""
    code = "import worker, onnxruntime as o; o.InferenceSession"

    def left_behind(**env: str) -> list[Path]:
        home = tmp_path / (env.get("ORT_DISABLE_TELEMETRY") or "unset")
        home.mkdir()
        # Nothing of our surroundings: where it sees signs of a test machine it keeps quiet.
        bare = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        subprocess.run([sys.executable, "-c", code], env=bare | env, check=True)
        return list(home.rglob("*.db"))

    assert left_behind() == []
    assert left_behind(ORT_DISABLE_TELEMETRY="0") != []
