"""The methods of the protocol, whatever carries them."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, final

from common.errors import InvalidRequest, LeptonError, NotFound, Reason
from gateway.kserve.request import OUTPUTS, request_of, spoken, wanted_outputs
from gateway.kserve.response import WholeAnswer
from gateway.kserve.tensors import DATATYPE, TEXT_INPUT
from gateway.ports import Asked, Upstream
from lepton.kserve.v2 import open_inference_pb2 as pb
from lepton.v1 import inference_pb2, types_pb2

__all__ = ["NAME", "Facade"]

NAME: Final = "lepton"
_SHOWN_MAX: Final = 16


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Facade:
    """The protocol over a cluster.

    Errors: `LeptonError`, with fields in the words of the protocol. Cancellation: the compute stops.
    """

    upstream: Upstream
    is_ready: Callable[[], Awaitable[bool]]
    version: str
    """Release of Lepton."""

    async def server_ready(self) -> pb.ServerReadyResponse:
        """Whether calls are taken."""
        return pb.ServerReadyResponse(ready=await self.is_ready())

    def server_metadata(self) -> pb.ServerMetadataResponse:
        """What answers here."""
        return pb.ServerMetadataResponse(name=NAME, version=self.version)

    async def model_ready(self, which: pb.ModelReadyRequest, asked: Asked) -> pb.ModelReadyResponse:
        """Whether a worker serves the model now."""
        try:
            served = await self._served(which.name, which.version, asked)
        except NotFound:
            served = []
        return pb.ModelReadyResponse(ready=any(model.num_workers for model in served))

    async def model_metadata(
        self, which: pb.ModelMetadataRequest, asked: Asked
    ) -> pb.ModelMetadataResponse:
        """Tensors and revisions of a model."""
        served = await self._served(which.name, which.version, asked)
        metadata = pb.ModelMetadataResponse(
            name=which.name,
            versions=[model.revision for model in served if model.revision],
            platform=NAME,
        )
        metadata.inputs.add(name=TEXT_INPUT, datatype=DATATYPE, shape=[1])
        for name in OUTPUTS:
            metadata.outputs.add(name=name, datatype=DATATYPE, shape=[1])
        return metadata

    async def infer(
        self, infer: pb.ModelInferRequest, asked: Asked, *, request_id: str = ""
    ) -> pb.ModelInferResponse:
        """One answer, whole; `request_id` is used where the request brings none."""
        try:
            outputs = wanted_outputs(infer)
            request = request_of(infer)
            request.request_id = request.request_id or request_id or uuid.uuid4().hex
            answer = WholeAnswer()
            await self.upstream.generate(request.SerializeToString(), asked, answer.write)
            return answer.response(infer, request.request_id, outputs)
        except LeptonError as error:
            raise spoken(error) from error

    async def _served(self, name: str, version: str, asked: Asked) -> list[types_pb2.ModelInfo]:
        """The revisions of a model that are asked for, of which there is at least one."""
        if not name:
            raise InvalidRequest("name a model", reason=Reason.FIELD_REQUIRED, field="name")
        payload = await self.upstream.unary("ListModels", inference_pb2.ListModelsRequest(), asked)
        models = inference_pb2.ListModelsResponse.FromString(payload).models
        named = [model for model in models if model.model == name]
        if not named:
            known = ", ".join(sorted({model.model for model in models})[:_SHOWN_MAX])
            raise NotFound(f"no such model; there are {known or 'none'}", field="name")
        served = [model for model in named if model.revision.startswith(version)]
        if not served:
            raise NotFound(
                "the model is not served in that version",
                reason=Reason.REVISION_NOT_FOUND,
                field="version",
            )
        return served
