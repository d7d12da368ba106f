"""`lepton generate --resumable`: one answer over several connections."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import Result

from cli.client import Client
from common.errors import InvalidRequest, Overloaded, Reason, Unavailable
from lepton.v1 import inference_pb2
from lepton_client import Reconnection
from tests.support.resuming import request, resuming_cluster, text_of
from tests.support.scripted_server import ScriptedServer, scripted_server

Lepton = Callable[..., Result]

LOST = Unavailable("the worker is lost", reason=Reason.WORKER_LOST)


def test_a_broken_answer_goes_on_at_the_next_router(lepton: Lepton, server: ScriptedServer) -> None:
    server.error, server.error_after = LOST, 2
    with scripted_server() as other:
        routers = f"{server.address},{other.address}"
        done = lepton("generate", "hi", "--resumable", "5", "--router", routers)
        assert done.exit_code == 0, done.output
        assert done.stdout == "Hello world.\n"
        assert f"[WORKER_LOST after event 2; going on at {other.address}]" in done.stderr
        (first,), (second,) = server.requests, other.requests
        assert first.resumable_ms == 5000
        assert not first.HasField("resume")
        assert second.resume == inference_pb2.ResumeFrom(resume_token="t-1", after_seq=2)
        assert second.idempotency_key == first.idempotency_key != ""
        second.ClearField("resume")
        assert second == first


def test_a_router_that_is_not_there_is_passed_over(lepton: Lepton, server: ScriptedServer) -> None:
    routers = f"127.0.0.1:1,{server.address}"
    done = lepton("generate", "hi", "--resumable", "5", "--router", routers)
    assert (done.exit_code, done.stdout) == (0, "Hello world.\n")


def test_nobody_waits_longer_than_the_call_is_kept(lepton: Lepton) -> None:
    done = lepton("generate", "hi", "--resumable", "0.2", "--router", "127.0.0.1:1,127.0.0.1:2")
    assert done.exit_code == 1
    assert "UNREACHABLE" in done.stderr


def test_without_the_option_a_broken_answer_is_an_error(
    lepton: Lepton, server: ScriptedServer
) -> None:
    """The negative control."""
    server.error, server.error_after = LOST, 2
    done = lepton("generate", "hi", "-a", server.address)
    assert done.exit_code == 1
    assert server.requests[0].resumable_ms == 0


def test_what_is_no_broken_connection_is_told_at_once(
    lepton: Lepton, server: ScriptedServer
) -> None:
    server.error = InvalidRequest("no", reason=Reason.PROMPT_EMPTY)
    done = lepton("generate", "hi", "--resumable", "5", "-a", server.address, "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["error"]["reason"] == "PROMPT_EMPTY"
    assert len(server.requests) == 1


def test_who_comes_back_also_asks_a_full_cluster_again(
    lepton: Lepton, server: ScriptedServer
) -> None:
    server.error = Overloaded("full")
    done = lepton("generate", "hi", "--resumable", "5", "-a", server.address)
    assert done.exit_code == 1
    assert "[QUEUE_FULL before the first event; going on at" in done.stderr
    assert len({request.idempotency_key for request in server.requests}) == 1
    assert len(server.requests) == 3


def test_routers_alone_make_no_sense(lepton: Lepton) -> None:
    done = lepton("generate", "hi", "--router", "127.0.0.1:1")
    assert done.exit_code == 2
    assert "--resumable" in done.stderr


@pytest.mark.parametrize("num_chars", [1, 7])
async def test_a_router_that_dies_costs_no_token(num_chars: int) -> None:
    """Real routers and workers; the first router goes while the answer comes."""
    told: list[Reconnection] = []

    async with resuming_cluster() as cluster:
        addresses = [f"127.0.0.1:{router.port}" for router in cluster.routers]
        client = Client(*addresses, resume=True, retry=True, on_reconnect=told.append)
        texts: list[str] = []
        async with client:
            cluster.pace.allow(num_chars)
            asked = request(resumable_ms=0)
            async for event in client.generate(asked, timeout_s=20):
                texts.append(event.delta.text)
                if len("".join(texts)) == num_chars and not told:
                    await cluster.routers[0].server.stop(0)
                    cluster.pace.free()
        assert "".join(texts) == text_of(20)
        assert told[-1].address == addresses[1]
        assert cluster.pace.num_tokens == 20
