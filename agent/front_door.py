"""What the agent asks the router: which models can be asked, and by how many workers each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import grpc

from common.clock import Clock
from common.rpc.channel import open_channel
from lepton.v1 import inference_pb2, inference_pb2_grpc

__all__ = ["wait_models"]

_POLL_S: Final = 0.05
_CALL_S_MAX: Final = 2.0
_MESSAGE_BYTES_MAX: Final = 4 << 20


async def wait_models(address: str, wanted: Mapping[str, int], clock: Clock) -> None:
    """Returns once the router lists every model of `wanted` with that many workers. Never gives up; the caller sets a
    bound.
    """
    channel = open_channel(address, message_bytes_max=_MESSAGE_BYTES_MAX)
    async with channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        while not await _lists(stub, wanted):
            await clock.sleep(_POLL_S)


async def _lists(stub: inference_pb2_grpc.InferenceServiceStub, wanted: Mapping[str, int]) -> bool:
    try:
        answer = await stub.ListModels(inference_pb2.ListModelsRequest(), timeout=_CALL_S_MAX)
    except grpc.aio.AioRpcError:
        return False
    found: dict[str, int] = {}
    for model in answer.models:
        found[model.model] = found.get(model.model, 0) + model.num_workers
    return all(found.get(name, 0) >= number for name, number in wanted.items())
