"""KServe v2 over gRPC and HTTP before a real router and worker; every question through both."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest

from common.rpc.status import from_rpc_error
from gateway.settings import GatewaySettings
from lepton.kserve.v2 import open_inference_pb2 as pb
from tests.support.patience import PATIENCE_S
from tests.support.resuming import ResumingCluster, resuming_cluster, text_of
from tests.support.small_cluster import until

ANSWER = text_of(5)


@pytest.fixture(name="cluster")
async def _cluster() -> AsyncIterator[ResumingCluster]:
    async with resuming_cluster(("w1",), num_routers=1, gateway=GatewaySettings(port=0)) as cluster:
        yield cluster


@pytest.fixture(name="http")
async def _http(cluster: ResumingCluster) -> AsyncIterator[aiohttp.ClientSession]:
    base = f"http://127.0.0.1:{cluster.routers[0].ports.http}"
    async with aiohttp.ClientSession(base) as session:
        yield session


async def ask(cluster: ResumingCluster, method: str, request: Any, response: Any) -> Any:
    call: Any = cluster.channels[0].unary_unary(f"/inference.GRPCInferenceService/{method}")
    return response.FromString(await call(request.SerializeToString(), timeout=PATIENCE_S))


def question(text: bytes = b"hello", **parameters: Any) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="tiny", id="mine")
    tensor = request.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(text)
    for name, value in parameters.items():
        kind = {bool: "bool", int: "int64", str: "string", float: "double"}[type(value)]
        setattr(request.parameters[name], f"{kind}_param", value)
    return request


def body(text: str = "hello", **parameters: Any) -> dict[str, Any]:
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": [text]}
    return {"id": "mine", "inputs": [tensor], "parameters": parameters}


async def model_of(cluster: ResumingCluster) -> Any:
    (endpoint,) = next(iter(cluster.routers[0].pool.snapshot().models.values()))
    return endpoint


async def test_text_in_text_out(cluster: ResumingCluster, http: aiohttp.ClientSession) -> None:
    cluster.pace.free()
    endpoint = await model_of(cluster)
    request = question(max_tokens=5, seed=7, temperature=0.0)
    request.model_name = endpoint.model
    response = await ask(cluster, "ModelInfer", request, pb.ModelInferResponse)
    assert [output.name for output in response.outputs] == ["text_output", "finish_reason"]
    assert response.outputs[0].contents.bytes_contents == [ANSWER.encode()]
    assert response.outputs[1].contents.bytes_contents == [b"length"]
    assert (response.id, response.model_name) == ("mine", endpoint.model)
    assert response.model_version == endpoint.revision
    assert response.parameters["completion_tokens"].int64_param == 5
    url = f"/v2/models/{endpoint.model}/infer"
    async with http.post(url, json=body(max_tokens=5, seed=7, temperature=0)) as answered:
        assert answered.status == 200
        told = await answered.json()
    assert told["outputs"] == [
        {"name": "text_output", "datatype": "BYTES", "shape": [1], "data": [ANSWER]},
        {"name": "finish_reason", "datatype": "BYTES", "shape": [1], "data": ["length"]},
    ]
    assert (told["id"], told["model_version"]) == ("mine", endpoint.revision)


async def test_raw_comes_back_raw_in_the_shape_it_came(cluster: ResumingCluster) -> None:
    cluster.pace.free()
    request = question(max_tokens=5)
    request.model_name = ""
    request.inputs[0].ClearField("contents")
    request.inputs[0].shape[:] = [1, 1]
    request.raw_input_contents.append(struct.pack("<I", 5) + b"hello")
    request.outputs.add(name="text_output")
    response = await ask(cluster, "ModelInfer", request, pb.ModelInferResponse)
    assert response.raw_output_contents == [struct.pack("<I", 5) + ANSWER.encode()]
    (output,) = response.outputs
    assert list(output.shape) == [1, 1]
    assert not output.contents.bytes_contents


async def test_a_stop_text_and_a_chat(cluster: ResumingCluster) -> None:
    cluster.pace.free()
    request = question(stop="de", chat=True)
    request.ClearField("model_name")
    response = await ask(cluster, "ModelInfer", request, pb.ModelInferResponse)
    assert response.outputs[0].contents.bytes_contents == [b"abc"]
    assert response.outputs[1].contents.bytes_contents == [b"stop"]


async def test_who_is_there(cluster: ResumingCluster, http: aiohttp.ClientSession) -> None:
    endpoint = await model_of(cluster)
    live = await ask(cluster, "ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse)
    ready = await ask(cluster, "ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse)
    assert (live.live, ready.ready) == (True, True)
    server = await ask(
        cluster, "ServerMetadata", pb.ServerMetadataRequest(), pb.ServerMetadataResponse
    )
    assert server.name == "lepton"
    for name, version, is_there in (
        (endpoint.model, "", True),
        (endpoint.model, endpoint.revision[:8], True),
        (endpoint.model, "f" * 10, False),
        ("nobody", "", False),
    ):
        which = pb.ModelReadyRequest(name=name, version=version)
        found = await ask(cluster, "ModelReady", which, pb.ModelReadyResponse)
        assert found.ready == is_there
        path = f"/v2/models/{name}" + (f"/versions/{version}" if version else "")
        async with http.get(f"{path}/ready") as answered:
            assert answered.status == (200 if is_there else 404)
    metadata = await ask(
        cluster,
        "ModelMetadata",
        pb.ModelMetadataRequest(name=endpoint.model),
        pb.ModelMetadataResponse,
    )
    assert list(metadata.versions) == [endpoint.revision]
    async with http.get(f"/v2/models/{endpoint.model}") as answered:
        assert await answered.json() == {
            "name": endpoint.model,
            "versions": [endpoint.revision],
            "platform": "lepton",
            "inputs": [{"name": "text_input", "datatype": "BYTES", "shape": [1]}],
            "outputs": [
                {"name": "text_output", "datatype": "BYTES", "shape": [1]},
                {"name": "finish_reason", "datatype": "BYTES", "shape": [1]},
            ],
        }
    async with http.get("/v2") as answered:
        assert (await answered.json())["name"] == "lepton"
    for path in ("/v2/health/live", "/v2/health/ready"):
        async with http.get(path) as answered:
            assert answered.status == 200


@pytest.mark.parametrize(
    ("parameters", "reason", "field"),
    [
        ({"max_tokens": 0}, "FIELD_OUT_OF_RANGE", "parameters.max_tokens"),
        ({"max_tokens": -1}, "FIELD_OUT_OF_RANGE", "parameters.max_tokens"),
        ({"max_tokens": "5"}, "FIELD_MALFORMED", "parameters.max_tokens"),
        ({"temperature": 11.0}, "FIELD_OUT_OF_RANGE", "parameters.temperature"),
        ({"temperature": True}, "FIELD_MALFORMED", "parameters.temperature"),
        ({"stop": ""}, "FIELD_OUT_OF_RANGE", "parameters.stop"),
        ({"stop": 3}, "FIELD_MALFORMED", "parameters.stop"),
        ({"chat": 1}, "FIELD_MALFORMED", "parameters.chat"),
        ({"n": 2}, "PARAMETER_UNSUPPORTED", "parameters.n"),
        ({"regex": "a+"}, "CONSTRAINT_UNSUPPORTED", "parameters"),
    ],
)
async def test_bad_parameters_get_one_verdict_on_both_doors(
    cluster: ResumingCluster,
    http: aiohttp.ClientSession,
    parameters: dict[str, Any],
    reason: str,
    field: str,
) -> None:
    cluster.pace.free()
    request = question(**parameters)
    endpoint = await model_of(cluster)
    request.model_name = endpoint.model
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ask(cluster, "ModelInfer", request, pb.ModelInferResponse)
    error = from_rpc_error(refused.value)
    assert (error.reason, error.field) == (reason, field)
    async with http.post(f"/v2/models/{endpoint.model}/infer", json=body(**parameters)) as answered:
        told = await answered.json()
        assert answered.status == 400
    assert (told["reason"], told["field"]) == (reason, field)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"inputs": []}, "inputs"),
        ({"inputs": None}, "inputs"),
        ({"inputs": {}}, "inputs"),
        ({"inputs": [3]}, "inputs[0]"),
        (
            {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": ["a"]}]},
            "inputs[0].name",
        ),
        ({"outputs": [{"name": "logits"}]}, "outputs[0]"),
        ({"parameters": {"seed": [1]}}, "parameters.seed"),
        ({"model_name": "tiny"}, "model_name"),
        ({"id": "a b"}, "id"),
    ],
)
async def test_bad_bodies_are_refused_by_path(
    cluster: ResumingCluster, http: aiohttp.ClientSession, change: dict[str, Any], field: str
) -> None:
    async with http.post("/v2/models/tiny/infer", json={**body(), **change}) as answered:
        told = await answered.json()
        assert (answered.status, told["field"]) == (400, field)
        assert isinstance(told["error"], str)
        assert told["request_id"]


@pytest.mark.parametrize(
    ("tensor", "field"),
    [
        ({"datatype": "FP32"}, "inputs[0].datatype"),
        ({"shape": [2]}, "inputs[0].shape"),
        ({"shape": []}, "inputs[0].shape"),
        ({"shape": [-1, -1]}, "inputs[0].shape"),
        ({"shape": [1 << 62, 4]}, "inputs[0].shape"),
        ({"shape": [1] * 1000}, "inputs[0].shape"),
        ({"data": []}, "inputs[0].contents.bytes_contents"),
        ({"data": ["a", "b"]}, "inputs[0].contents.bytes_contents"),
        ({"data": [1]}, "inputs[0].data[0]"),
        ({"data": "a"}, "inputs[0].data"),
        ({"data": [""]}, "inputs[0]"),
        ({"binary_data_size": 7}, "inputs[0].binary_data_size"),
    ],
)
async def test_bad_tensors_are_refused_by_path(
    cluster: ResumingCluster, http: aiohttp.ClientSession, tensor: dict[str, Any], field: str
) -> None:
    endpoint = await model_of(cluster)
    sent = body()
    sent["inputs"][0] |= tensor
    async with http.post(f"/v2/models/{endpoint.model}/infer", json=sent) as answered:
        told = await answered.json()
        assert (answered.status, told["field"]) == (400, field)


@pytest.mark.parametrize(
    "raw", [b"", b"abc", b"\x05\0\0\0hell", b"\x05\0\0\0hello!", b"\xff\xff\xff\xff"]
)
async def test_raw_tensors_that_lie_are_refused(cluster: ResumingCluster, raw: bytes) -> None:
    request = question()
    request.inputs[0].ClearField("contents")
    request.raw_input_contents.append(raw)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ask(cluster, "ModelInfer", request, pb.ModelInferResponse)
    assert from_rpc_error(refused.value).field == "raw_input_contents"


async def test_text_that_is_none_is_refused(cluster: ResumingCluster) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ask(cluster, "ModelInfer", question(b"\xff"), pb.ModelInferResponse)
    assert from_rpc_error(refused.value).field == "inputs[0]"


async def test_an_unknown_model_is_not_found(
    cluster: ResumingCluster, http: aiohttp.ClientSession
) -> None:
    request = question()
    request.model_name = "nobody"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ask(cluster, "ModelInfer", request, pb.ModelInferResponse)
    error = from_rpc_error(refused.value)
    assert (error.reason, error.field) == ("MODEL_NOT_FOUND", "model_name")
    for path in ("/v2/models/nobody", "/v2/models/..%2F..%2Fetc"):
        async with http.get(path) as answered:
            assert answered.status == 404


async def test_a_client_that_leaves_stops_the_compute(
    cluster: ResumingCluster, http: aiohttp.ClientSession
) -> None:
    endpoint = await model_of(cluster)
    request = question()
    request.model_name = endpoint.model
    call: Any = cluster.channels[0].unary_unary("/inference.GRPCInferenceService/ModelInfer")
    running = call(request.SerializeToString(), timeout=PATIENCE_S)
    await until(lambda: cluster.num_computing() == 1, what="it runs")
    running.cancel()
    await cluster.until_alone()
    cluster.pace.free()
    await cluster.until_nothing_is_left()


async def test_an_http_client_that_leaves_stops_the_compute(
    cluster: ResumingCluster, http: aiohttp.ClientSession
) -> None:
    endpoint = await model_of(cluster)
    asking = asyncio.ensure_future(http.post(f"/v2/models/{endpoint.model}/infer", json=body()))
    await until(lambda: cluster.num_computing() == 1, what="it runs")
    asking.cancel()
    await asyncio.wait([asking])
    await cluster.until_alone()
    cluster.pace.free()
    await cluster.until_nothing_is_left()


async def test_binary_tensors_are_declined(
    cluster: ResumingCluster, http: aiohttp.ClientSession
) -> None:
    cluster.pace.free()
    endpoint = await model_of(cluster)
    url = f"/v2/models/{endpoint.model}/infer"
    for is_binary, status in ((False, 200), (True, 400)):
        outputs = [{"name": "text_output", "parameters": {"binary_data": is_binary}}]
        async with http.post(url, json={**body(max_tokens=5), "outputs": outputs}) as answered:
            assert answered.status == status
