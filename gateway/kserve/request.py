"""ModelInfer → Generate, and errors back in the words of ModelInfer. Whether values make sense the cluster judges."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from common.errors import InvalidRequest, LeptonError, Reason
from gateway.json_form import from_json
from gateway.kserve.tensors import text_of
from lepton.kserve.v2 import open_inference_pb2 as pb
from lepton.v1 import inference_pb2

__all__ = ["OUTPUTS", "request_of", "spoken", "wanted_outputs"]

OUTPUTS: Final = ("text_output", "finish_reason")

_CHAT: Final = "chat"
"""Parameter that says whether the text is what a user says, or a prompt as it is."""

_PARAMETERS: Final[Mapping[str, tuple[str, str]]] = {
    "max_tokens": ("stop", "max_tokens"),
    "min_tokens": ("stop", "min_tokens"),
    "stop": ("stop", "strings"),
    "ignore_eos": ("stop", "ignore_eos"),
    "temperature": ("sampling", "temperature"),
    "top_p": ("sampling", "top_p"),
    "top_k": ("sampling", "top_k"),
    "min_p": ("sampling", "min_p"),
    "repetition_penalty": ("sampling", "repetition_penalty"),
    "frequency_penalty": ("sampling", "frequency_penalty"),
    "presence_penalty": ("sampling", "presence_penalty"),
    "seed": ("sampling", "seed"),
    "json_schema": ("constraint", "json_schema"),
    "regex": ("constraint", "regex"),
}
"""Name here → where a GenerateRequest has it."""

_LISTS: Final = frozenset({"stop"})

_SPOKEN: Final[Mapping[str, str]] = {
    "model": "model_name",
    "revision": "model_version",
    "request_id": "id",
    "text": "inputs[0]",
    "chat": "inputs[0]",
    "input": "inputs[0]",
    "constraint": "parameters",
    **{".".join(place): f"parameters.{name}" for name, place in _PARAMETERS.items()},
}
_NAME_CHARS_MAX: Final = 64


def request_of(infer: pb.ModelInferRequest) -> inference_pb2.GenerateRequest:
    """What the cluster is asked. Raises `InvalidRequest` for what a GenerateRequest cannot say."""
    text = text_of(infer)
    body: dict[str, Any] = {
        "request_id": infer.id,
        "model": infer.model_name,
        "revision": infer.model_version,
    }
    is_chat: Any = False
    for name, parameter in infer.parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        value = getattr(parameter, kind) if kind else None
        if name == _CHAT:
            is_chat = value
            continue
        if name not in _PARAMETERS:
            raise InvalidRequest(
                f"unknown parameter; there are {', '.join([*_PARAMETERS, _CHAT])}",
                reason=Reason.PARAMETER_UNSUPPORTED,
                field=f"parameters.{name[:_NAME_CHARS_MAX]}",
            )
        group, field = _PARAMETERS[name]
        body.setdefault(group, {})[field] = [value] if name in _LISTS else value
    if not isinstance(is_chat, bool):
        raise InvalidRequest("must be true or false", field=f"parameters.{_CHAT}")
    if is_chat:
        body["chat"] = {"messages": [{"role": "ROLE_USER", "content": text}]}
    else:
        body["text"] = text
    return from_json(inference_pb2.GenerateRequest, body)


def wanted_outputs(infer: pb.ModelInferRequest) -> tuple[str, ...]:
    """Which tensors to return, in which order. Raises `InvalidRequest` for those that there are not."""
    for index, output in enumerate(infer.outputs):
        if output.name not in OUTPUTS or output.parameters:
            raise InvalidRequest(
                f"outputs are {' and '.join(OUTPUTS)}, without parameters",
                field=f"outputs[{index}]",
            )
    return tuple(dict.fromkeys(output.name for output in infer.outputs)) or OUTPUTS


def spoken(error: LeptonError) -> LeptonError:
    """The same error, its field in the words of ModelInfer."""
    field = error.field or ""
    for known in (field, field.partition("[")[0], field.partition(".")[0]):
        if known in _SPOKEN:
            told = copy.copy(error)
            told.field = _SPOKEN[known]
            return told
    return error
