"""`lepton route`: the explanation as people and programs see it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from rich.console import Console
from typer.testing import Result

from cli.route import explanation_view
from common.rpc.metadata import CLUSTER_TOKEN_KEY
from lepton.v1 import router_pb2, router_pb2_grpc
from tests.support.scripted_server import ScriptedServer

Lepton = Callable[..., Result]

TOLD = router_pb2.ExplainRouteResponse(
    policy="power_of_two",
    model="demo",
    revision="1a2b3c4d",
    best_worker_id="w2",
    candidates=[
        router_pb2.RouteCandidate(
            worker_id="w2",
            revision="1a2b3c4d" * 8,
            state="ready",
            total=0.875,
            scores=[
                router_pb2.RouteScore(scorer="load", score=0.75, weight=1, detail="2 running"),
                router_pb2.RouteScore(scorer="prefix", score=1, weight=1.5),
            ],
        ),
        router_pb2.RouteCandidate(
            worker_id="w\x1b[31m1", revision="1a2b3c4d" * 8, state="lost", filtered_by="not_ready"
        ),
    ],
)


def text_of(told: router_pb2.ExplainRouteResponse) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=80).print(explanation_view(told))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_the_table_shows_every_worker_the_winner_first_and_why() -> None:
    head, _, titles, weights, best, other, _, words = text_of(TOLD)[:8]
    assert head == "w2   demo@1a2b3c4d, policy power_of_two, 2 workers"
    assert titles.split() == ["load", "prefix"]
    assert weights.split() == ["worker", "revision", "state", "×1", "×1.5", "total"]
    assert best.split() == ["→", "w2", "1a2b3c4d", "ready", "0.75", "1.00", "0.875"]
    assert other.split() == ["w[31m1", "1a2b3c4d", "lost", "not_ready"], "no escape code gets out"
    assert words == "w2 load: 2 running"


def test_nobody_to_take_it_is_said() -> None:
    told = router_pb2.ExplainRouteResponse(policy="p", model="demo", stale_s=3.0)
    assert " ".join(text_of(told)[:2]).startswith(
        "nowhere: no worker may take it now   demo, policy p, 0 workers, registry away"
    )


class Explainer(router_pb2_grpc.RouterServiceServicer):
    """Answers, and remembers what it was asked."""

    def __init__(self) -> None:
        self.address = ""
        self.request = router_pb2.ExplainRouteRequest()
        self.token = ""

    def ExplainRoute(  # noqa: N802 - the name in the proto
        self, request: router_pb2.ExplainRouteRequest, context: grpc.ServicerContext
    ) -> router_pb2.ExplainRouteResponse:
        self.request = request
        self.token = str(dict(context.invocation_metadata()).get(CLUSTER_TOKEN_KEY, ""))
        return TOLD


@pytest.fixture
def explainer() -> Iterator[Explainer]:
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = Explainer()
    router_pb2_grpc.add_RouterServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield servicer
    server.stop(0).wait()


def test_the_request_is_the_one_that_generate_would_send(
    lepton: Lepton, explainer: Explainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEPTON_CLUSTER_TOKEN", "sesame")
    said = lepton(
        "route", "-", "--explain", "-s", "be kind", "-m", "chat", "--session-key", "k",
        "-a", explainer.address, text="hello",
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    assert "→" in said.stdout
    request = explainer.request.request
    assert [m.content for m in request.chat.messages] == ["be kind", "hello"]
    assert (request.model, request.session_key) == ("chat", "k")
    assert explainer.token == "sesame"


def test_without_explain_one_line_says_where(lepton: Lepton, explainer: Explainer) -> None:
    said = lepton("route", "hello", "--raw", "-a", explainer.address)
    assert said.stdout.splitlines() == ["w2   demo@1a2b3c4d, policy power_of_two, 2 workers"]
    assert explainer.request.request.text == "hello"


def test_json_holds_everything(lepton: Lepton, explainer: Explainer) -> None:
    said = json.loads(lepton("route", "hello", "--json", "-a", explainer.address).stdout)
    assert said["best_worker_id"] == "w2"
    assert said["candidates"][0]["scores"][0] == (
        {"scorer": "load", "score": 0.75, "weight": 1.0, "detail": "2 running"}
    )


def test_a_worker_is_no_router(lepton: Lepton, server: ScriptedServer) -> None:
    said = lepton("route", "hello", "-a", server.address)
    assert said.exit_code != 0
    assert "is not a router" in said.stderr


def test_what_is_no_address_is_refused(lepton: Lepton) -> None:
    said = lepton("route", "hello", "-a", "nonsense")
    assert said.exit_code == 2
    assert "is not an address" in said.stderr
