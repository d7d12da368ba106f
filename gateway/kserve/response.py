"""A stream of events → one ModelInfer response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from common.errors import Internal, Reason
from gateway.kserve.tensors import DATATYPE, raw_of
from lepton.kserve.v2 import open_inference_pb2 as pb
from lepton.v1 import inference_pb2, types_pb2

__all__ = ["WholeAnswer"]

_PREFIX = "FINISH_REASON_"


@final
class WholeAnswer:
    """Takes the messages of one Generate with one choice, in order."""

    def __init__(self) -> None:
        self._started = inference_pb2.Started()
        self._finished: inference_pb2.Finished | None = None
        self._texts: list[str] = []

    async def write(self, message: bytes) -> None:
        """A `gateway.ports.Write`."""
        for event in inference_pb2.GenerateResponse.FromString(message).events:
            if event.HasField("delta"):
                self._texts.append(event.delta.text)
            elif event.HasField("started"):
                self._started = event.started
            elif event.HasField("finished"):
                self._finished = event.finished

    def response(
        self, infer: pb.ModelInferRequest, request_id: str, outputs: Sequence[str]
    ) -> pb.ModelInferResponse:
        """The answer to `infer`, with these tensors; raw when the question was."""
        if self._finished is None:
            raise Internal("the answer has no end", reason=Reason.STREAM_FAULT)
        response = pb.ModelInferResponse(
            model_name=self._started.model,
            model_version=self._started.revision,
            id=request_id,
        )
        usage = self._finished.usage
        response.parameters["prompt_tokens"].int64_param = usage.prompt_tokens
        response.parameters["completion_tokens"].int64_param = usage.completion_tokens
        reason = types_pb2.FinishReason.Name(self._finished.choices[0].reason)
        values = {
            "text_output": "".join(self._texts),
            "finish_reason": reason.removeprefix(_PREFIX).lower(),
        }
        for name in outputs:
            tensor = response.outputs.add(name=name, datatype=DATATYPE, shape=infer.inputs[0].shape)
            if infer.raw_input_contents:
                response.raw_output_contents.append(raw_of(values[name]))
            else:
                tensor.contents.bytes_contents.append(values[name].encode("utf-8"))
        return response
