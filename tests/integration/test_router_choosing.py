"""Why calls go where they go, through a real router: affinity, aliases, explanations."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from common.cluster import ClusterSettings
from common.errors import Forbidden, InvalidRequest, NotFound, Reason
from common.rpc.auth import cluster_token_metadata
from common.rpc.status import from_rpc_error
from lepton.v1 import inference_pb2, router_pb2, router_pb2_grpc
from router.core.endpoint import EndpointState
from tests.support.fake_worker import FakeWorker
from tests.support.patience import PATIENCE_S
from tests.support.prompts import chat_request
from tests.support.small_cluster import SmallCluster, ask, small_cluster

STABLE, CANARY = "1a2b3c4d" + "0" * 56, "9f8e7d6c" + "0" * 56
ALIASES = "chat=tiny@1a2b3c4d:95,tiny@9f8e7d6c:5"
SESAME = ClusterSettings(token="sesame")


async def explain(
    cluster: SmallCluster,
    request: inference_pb2.GenerateRequest,
    settings: ClusterSettings | None = None,
) -> router_pb2.ExplainRouteResponse:
    stub: Any = router_pb2_grpc.RouterServiceStub(cluster.channel)  # type: ignore[no-untyped-call]
    metadata = cluster_token_metadata((settings or ClusterSettings()).token)
    try:
        told: router_pb2.ExplainRouteResponse = await stub.ExplainRoute(
            router_pb2.ExplainRouteRequest(request=request), timeout=PATIENCE_S, metadata=metadata
        )
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None
    return told


async def test_siblings_go_to_one_worker_and_strangers_elsewhere() -> None:
    async with small_cluster(*(FakeWorker(f"w{n}") for n in range(4))) as cluster:
        for number in range(6):
            assert (await cluster.ask(text="d" * 4096 + str(number))).error is None
        assert sorted(len(w.calls) for w in cluster.workers.values()) == [0, 0, 0, 6]


async def test_without_hashes_they_scatter() -> None:
    """The control of the test above."""
    workers = [FakeWorker(f"w{n}") for n in range(4)]
    async with small_cluster(*workers, prefix_hashes_max=0) as cluster:
        for number in range(12):
            await cluster.ask(text="d" * 4096 + str(number))
        assert max(len(w.calls) for w in cluster.workers.values()) < 12


async def test_explanation_holds_every_worker_with_scores_reasons_and_the_winner() -> None:
    workers = [FakeWorker(f"w{n}") for n in range(3)]
    async with small_cluster(*workers, cluster=SESAME) as cluster:
        request = inference_pb2.GenerateRequest(model="tiny", text="d" * 4096)
        await ask(cluster.channel, request)
        (home,) = (w.id for w in workers if w.calls)
        other = next(w for w in workers if w.id != home)
        other.drain()
        await cluster.until_state(other.id, EndpointState.DRAINING)
        told = await explain(cluster, request, SESAME)
        assert (told.policy, told.best_worker_id) == ("power_of_two", home)
        assert (told.model, told.revision) == ("tiny", "")
        assert not told.HasField("stale_s")
        assert told.candidates[0].worker_id == home
        by_id = {c.worker_id: c for c in told.candidates}
        assert set(by_id) == {w.id for w in workers}
        assert (by_id[other.id].filtered_by, by_id[other.id].state) == ("not_ready", "draining")
        assert not by_id[other.id].scores
        scores = {s.scorer: s for s in by_id[home].scores}
        assert list(scores) == ["load", "prefix", "kv_headroom", "session"]
        assert scores["prefix"].detail == "4096 of 4096 bytes of the prompt are known there"
        assert scores["prefix"].score == 1.0
        assert "0 running" in scores["load"].detail
        weights = sum(s.weight for s in scores.values())
        total = sum(s.score * s.weight for s in scores.values()) / weights
        assert by_id[home].total == pytest.approx(total)
        assert sum(len(w.calls) for w in workers) == 1, "nothing was sent anywhere"


async def test_explanation_needs_the_cluster_token() -> None:
    async with small_cluster(FakeWorker(), cluster=SESAME) as cluster:
        request = inference_pb2.GenerateRequest(model="tiny", text="x")
        for wrong in (None, ClusterSettings(token="guess")):
            with pytest.raises(Forbidden) as caught:
                await explain(cluster, request, wrong)
            assert caught.value.reason is Reason.CLUSTER_TOKEN_INVALID


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (inference_pb2.GenerateRequest(model="tiny"), InvalidRequest),
        (inference_pb2.GenerateRequest(model="nope", text="x"), NotFound),
        (inference_pb2.GenerateRequest(model="tiny", text="x", revision="00000000"), NotFound),
    ],
    ids=["no prompt", "unknown model", "unknown revision"],
)
async def test_what_cannot_be_routed_cannot_be_explained(
    request_: inference_pb2.GenerateRequest, error: type[Exception]
) -> None:
    async with small_cluster(FakeWorker()) as cluster:
        with pytest.raises(error):
            await explain(cluster, request_)


async def test_an_alias_reaches_its_revisions_by_weight_and_workers_see_their_own_names() -> None:
    stable, canary = FakeWorker("w1", revision=STABLE), FakeWorker("w2", revision=CANARY)
    async with small_cluster(stable, canary, aliases=ALIASES) as cluster:
        for number in range(200):
            assert (await cluster.ask("chat", session_key=f"user-{number}")).error is None
        assert len(canary.calls) in range(2, 25)
        assert len(stable.calls) + len(canary.calls) == 200
        for worker in (stable, canary):
            for call in worker.calls:
                seen = inference_pb2.GenerateRequest.FromString(call.payload)
                assert (seen.model, seen.text) == ("tiny", "hello")
                assert worker.revision.startswith(seen.revision)
                assert seen.revision


async def test_a_chat_stays_with_the_revision_that_began_it() -> None:
    stable, canary = FakeWorker("w1", revision=STABLE), FakeWorker("w2", revision=CANARY)
    async with small_cluster(
        stable, canary, aliases="chat=tiny@1a2b3c4d:50,tiny@9f8e7d6c:50"
    ) as cluster:
        for number in range(12):
            before = len(stable.calls), len(canary.calls)
            turns = [f"u:question {number}"]
            for _ in range(3):
                await ask(cluster.channel, chat_request(*turns, model="chat"))
                turns += ["a:well", "u:and?"]
            moved = len(stable.calls) - before[0], len(canary.calls) - before[1]
            assert sorted(moved) == [0, 3]
        assert stable.calls
        assert canary.calls


async def test_who_pins_a_revision_bypasses_the_weights() -> None:
    stable, canary = FakeWorker("w1", revision=STABLE), FakeWorker("w2", revision=CANARY)
    async with small_cluster(stable, canary, aliases=ALIASES) as cluster:
        for _ in range(5):
            await cluster.ask("chat", revision="9f8e7d6c")
        assert (len(stable.calls), len(canary.calls)) == (0, 5)


async def test_tokenizing_by_alias_asks_a_worker_that_it_means() -> None:
    worker = FakeWorker(model="tiny")
    async with small_cluster(worker, aliases="chat=tiny") as cluster:
        request = inference_pb2.TokenizeRequest(model="chat", text="ab")
        call: Any = cluster.channel.unary_unary("/lepton.v1.InferenceService/Tokenize")
        await call(request.SerializeToString(), timeout=PATIENCE_S)
        (seen,) = worker.calls
        assert inference_pb2.TokenizeRequest.FromString(seen.payload).model == "tiny"


async def test_an_unknown_name_is_told_the_aliases_too() -> None:
    async with small_cluster(FakeWorker(), aliases="chat=tiny") as cluster:
        answer = await cluster.ask("chatt")
        assert answer.error is not None
        assert answer.error.reason is Reason.MODEL_NOT_FOUND
        assert "'chat', 'tiny'" in answer.error.message


async def test_models_are_listed_with_aliases() -> None:
    stable, canary = FakeWorker("w1", revision=STABLE), FakeWorker("w2", revision=CANARY)
    aliases = f"{ALIASES}; only=tiny@9f8e7d6c; nothing=gone"
    async with small_cluster(stable, canary, aliases=aliases) as cluster:
        call: Any = cluster.channel.unary_unary("/lepton.v1.InferenceService/ListModels")
        listed = inference_pb2.ListModelsResponse.FromString(
            await call(b"", timeout=PATIENCE_S)
        ).models
        assert [(m.model, m.revision[:8], m.num_workers) for m in listed] == [
            ("chat", "", 2),
            ("only", "9f8e7d6c", 1),
            ("tiny", "1a2b3c4d", 1),
            ("tiny", "9f8e7d6c", 1),
        ]


async def test_explanation_says_what_an_alias_means() -> None:
    async with small_cluster(FakeWorker(revision=STABLE), aliases=ALIASES) as cluster:
        told = await explain(cluster, inference_pb2.GenerateRequest(model="chat", text="x"))
        assert (told.model, told.revision, told.best_worker_id) == ("tiny", "1a2b3c4d", "w1")
