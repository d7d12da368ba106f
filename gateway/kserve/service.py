"""The protocol over gRPC: handlers for `RpcServer.add_service`."""

from __future__ import annotations

import uuid
from typing import Any, Final, final

import grpc

from common.request.parse import parse_message
from common.request.request_id import is_request_id
from common.rpc.caller import caller_metadata, caller_of
from common.rpc.handlers import raw_unary_unary
from common.rpc.interceptors import annotate
from common.rpc.metadata import REQUEST_ID_KEY
from gateway.kserve.facade import Facade
from gateway.ports import Asked
from lepton.kserve.v2 import open_inference_pb2 as pb

__all__ = ["SERVICE", "InferenceService"]

SERVICE: Final = "inference.GRPCInferenceService"


@final
class InferenceService:
    """Errors are raised as `LeptonError`; the error interceptor turns them into a status."""

    def __init__(self, facade: Facade) -> None:
        self._facade = facade

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """Method name → handler."""
        return {
            "ServerLive": raw_unary_unary(self.server_live),
            "ServerReady": raw_unary_unary(self.server_ready),
            "ModelReady": raw_unary_unary(self.model_ready),
            "ServerMetadata": raw_unary_unary(self.server_metadata),
            "ModelMetadata": raw_unary_unary(self.model_metadata),
            "ModelInfer": raw_unary_unary(self.model_infer),
        }

    async def server_live(self, payload: bytes, context: Any) -> bytes:
        """Whoever answers lives."""
        parse_message(pb.ServerLiveRequest, payload)
        return pb.ServerLiveResponse(live=True).SerializeToString()

    async def server_ready(self, payload: bytes, context: Any) -> bytes:
        """See `Facade.server_ready`."""
        parse_message(pb.ServerReadyRequest, payload)
        return (await self._facade.server_ready()).SerializeToString()

    async def model_ready(self, payload: bytes, context: Any) -> bytes:
        """See `Facade.model_ready`."""
        which = parse_message(pb.ModelReadyRequest, payload)
        return (await self._facade.model_ready(which, _asked(context))).SerializeToString()

    async def server_metadata(self, payload: bytes, context: Any) -> bytes:
        """See `Facade.server_metadata`."""
        parse_message(pb.ServerMetadataRequest, payload)
        return self._facade.server_metadata().SerializeToString()

    async def model_metadata(self, payload: bytes, context: Any) -> bytes:
        """See `Facade.model_metadata`."""
        which = parse_message(pb.ModelMetadataRequest, payload)
        return (await self._facade.model_metadata(which, _asked(context))).SerializeToString()

    async def model_infer(self, payload: bytes, context: Any) -> bytes:
        """See `Facade.infer`."""
        infer = parse_message(pb.ModelInferRequest, payload)
        request_id = infer.id if is_request_id(infer.id) else uuid.uuid4().hex
        annotate(request_id=request_id)
        await context.send_initial_metadata(((REQUEST_ID_KEY, request_id),))
        response = await self._facade.infer(infer, _asked(context), request_id=request_id)
        return response.SerializeToString()


def _asked(context: Any) -> Asked:
    return Asked(metadata=caller_metadata(caller_of(context)), timeout_s=context.time_remaining())
