"""`python -m worker` from outside: ready line, one Generate, signals, and starts that are refused."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest

from lepton.v1 import inference_pb2, types_pb2
from tests.support.processes import Answer, LeptonProcess, ask, until
from tests.support.tiny_models import TINY_LLAMA, copy_model, edit_json, golden_cases

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
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as response:
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
            within_s=5,
            what="draining",
        )
        process.terminate()
        assert await process.wait(within_s=10) in (0, 1)  # 0: it was faster than the signal
        await asyncio.gather(*calls)


async def test_a_port_in_use_is_refused(worker: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = await refusal(worker(port=port))
        assert "PORT_IN_USE" in line
        assert str(port) in line
        assert "PORT_IN_USE" in await refusal(worker(metrics_port=port))


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
    assert await process.wait(within_s=15) == 0


@pytest.mark.parametrize(
    ("break_it", "reason", "file"),
    [
        (lambda folder: (folder / "model.onnx").unlink(), "MODEL_FILE_MISSING", "model.onnx"),
        (
            lambda folder: (folder / "tokenizer.json").write_text('{"cut'),
            "MODEL_",
            "tokenizer.json",
        ),
        (
            lambda folder: edit_json(
                folder / "genai_config.json", {"model.decoder.num_hidden_layers": 9}
            ),
            "MODEL_GRAPH_UNSUPPORTED",
            "model.onnx",
        ),
    ],
    ids=["no graph", "tokenizer cut off", "other graph"],
)
async def test_a_broken_model_folder_is_refused_with_file_and_fault(
    worker: Start, tmp_path: Path, break_it: Callable[[Path], object], reason: str, file: str
) -> None:
    folder = copy_model(TINY_LLAMA, tmp_path / "model")
    break_it(folder)
    line = await refusal(worker(model_dir=folder))
    assert reason in line
    assert file in line


async def test_a_setting_that_does_not_exist_is_refused_by_name(worker: Start) -> None:
    assert "rows_maxx" in await refusal(worker(rows_maxx=3))
