"""`lepton ps` and `lepton models`: from values to text and JSON, and with a router that is or is not there."""

from __future__ import annotations

import asyncio
import io
import json
import re
import socket
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

import grpc
from pydantic import SecretStr
from rich.console import Console
from typer.testing import Result

from cli.census import Census, WorkerRow, _ask_worker
from cli.ps import census_json, census_view
from lepton.v1 import types_pb2
from tests.support.scripted_server import MODEL, ScriptedServer

Lepton = Callable[..., Result]

CENSUS = Census(
    address="127.0.0.1:50051",
    router_error="",
    models=(MODEL,),
    workers=(
        WorkerRow(
            id="w1",
            model="tiny",
            revision="0123456789abcdef" * 2,
            address="127.0.0.1:4001",
            state="serving",
            running=3,
            rows_max=16,
            waiting=1,
            kv_usage=0.126,
            step=4242,
            pid=77,
        ),
        WorkerRow(
            id="w2", model="tiny", revision="", address="127.0.0.1:4002", state="unreachable"
        ),
    ),
    registry="etcd 127.0.0.1:2379",
    registry_away=True,
    problems=("/lepton/v1/workers/x: not JSON",),
)


def _text(census: Census) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    console.print(census_view(census))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_the_table_says_who_is_there_and_how_busy() -> None:
    head, _, titles, first, second, problem = _text(CENSUS)
    assert head == ("router 127.0.0.1:50051   registry etcd 127.0.0.1:2379 does not answer")
    assert titles.split()[:4] == ["worker", "model", "revision", "state"]
    assert titles.split()[4:] == ["running", "waiting", "kv", "address", "pid"]
    assert first.split() == (
        [
            "w1",
            "tiny",
            "01234567",
            "serving",
            "3/16",
            "1",
            "13%",
            "127.0.0.1:4001",
            "77",
        ]
    )
    assert second.split() == ["w2", "tiny", "unreachable", "127.0.0.1:4002"]
    assert problem == "unreadable entry /lepton/v1/workers/x: not JSON"


def test_what_peers_say_of_themselves_drives_no_terminal() -> None:
    """Neither with escape codes nor with the markup of our own tables."""
    evil = "[bold]\x1b[2J\x9b2J"
    row = replace(CENSUS.workers[0], id=evil, model=evil, revision=evil, address=evil, state=evil)
    model = types_pb2.ModelInfo(model=evil, revision=evil, tasks=[evil])
    everything = replace(CENSUS, workers=(row,), problems=(evil,))
    for shown in (
        _text(everything),
        _text(replace(everything, workers=(), models=(model,))),
    ):
        text = "\n".join(shown)
        assert "[bold]" in text
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


async def test_a_worker_that_ends_its_load_stream_is_silent() -> None:
    """As one does that stops just now."""

    async def nothing(request: bytes, context: object) -> AsyncGenerator[bytes, None]:
        return
        yield b""

    async def info(request: bytes, context: object) -> bytes:
        return b""

    server = grpc.aio.server()
    methods = {
        "GetInfo": grpc.unary_unary_rpc_method_handler(info),
        "WatchLoad": grpc.unary_stream_rpc_method_handler(nothing),
    }
    service = grpc.method_handlers_generic_handler("lepton.v1.WorkerService", methods)
    server.add_generic_rpc_handlers((service,))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        row = WorkerRow(id="w1", model="", revision="", address=address, state="serving")
        asked = await _ask_worker(row, SecretStr(""), asyncio.Semaphore(1))
    finally:
        await server.stop(0)
    assert (asked.id, asked.state, asked.running) == ("w1", "silent", None)


def test_json_holds_the_same() -> None:
    data = json.loads(json.dumps(census_json(CENSUS)))
    assert data["router"] == {"address": "127.0.0.1:50051", "answers": True, "error": None}
    assert data["registry"] == {"where": "etcd 127.0.0.1:2379", "answers": False}
    assert [row["id"] for row in data["workers"]] == ["w1", "w2"]
    assert data["workers"][0]["running"] == 3
    assert data["workers"][1]["running"] is None
    assert data["models"][0]["num_workers"] == 2


def test_a_cluster_of_another_machine_shows_its_models(
    lepton: Lepton, server: ScriptedServer
) -> None:
    done = lepton("ps", "-a", server.address)
    assert done.exit_code == 0
    assert "tiny" in done.stdout
    done = lepton("models", "-a", server.address, "--json")
    assert json.loads(done.stdout)["models"][0]["context_length"] == 512


def test_no_router(lepton: Lepton) -> None:
    done = lepton("ps", "-a", "127.0.0.1:1")
    assert done.exit_code == 1
    assert "does not answer" in done.stdout
    done = lepton("ps", "-a", "127.0.0.1:1", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["router"]["answers"] is False


def test_no_model(lepton: Lepton, server: ScriptedServer) -> None:
    server.models = []
    assert "No model can be asked now" in lepton("models", "-a", server.address).stdout


async def test_a_worker_that_is_frozen_is_silent() -> None:
    """It holds its port; the kernel takes connections that nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        row = WorkerRow(
            id="w1", model="", revision="", address=f"127.0.0.1:{frozen.getsockname()[1]}", state=""
        )
        asked = await _ask_worker(row, SecretStr(""), asyncio.Semaphore(1))
    assert (asked.id, asked.state, asked.running) == ("w1", "silent", None)
