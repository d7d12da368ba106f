"""ModelInfer in the JSON of the protocol, which is not protobuf's: tensors have `data`, parameters are plain values."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from typing import Any, Final, NoReturn

from common.errors import InvalidRequest, Reason
from gateway.json_form import from_json
from lepton.kserve.v2 import open_inference_pb2 as pb

__all__ = ["infer_of", "json_of", "json_of_metadata"]

_REQUEST: Final = frozenset({"id", "parameters", "inputs", "outputs"})
_INPUT: Final = frozenset({"name", "shape", "datatype", "parameters", "data"})
_OUTPUT: Final = frozenset({"name", "parameters"})
_INT64_MAX: Final = (1 << 63) - 1
_UINT64_MAX: Final = (1 << 64) - 1
_NAME_CHARS_MAX: Final = 64


_BINARY: Final = frozenset({"binary_data", "binary_data_output"})
"""Parameters of Triton's binary extension: clients that could use it say so when they do not."""


def infer_of(value: object, *, model: str, version: str) -> pb.ModelInferRequest:
    """The request in a decoded body; names and version come from its path. Raises `InvalidRequest`."""
    body = _object(value, "", _REQUEST)
    message = {
        "model_name": model,
        "model_version": version,
        "id": body.get("id"),
        "parameters": _parameters(body.get("parameters"), "parameters"),
        "inputs": [
            _input(each, f"inputs[{index}]") for index, each in _list(body.get("inputs"), "inputs")
        ],
        "outputs": [
            _output(each, f"outputs[{index}]")
            for index, each in _list(body.get("outputs"), "outputs")
        ],
    }
    return from_json(pb.ModelInferRequest, message)


def json_of(response: pb.ModelInferResponse) -> dict[str, Any]:
    """The body of an answer whose tensors are not raw."""
    return {
        "model_name": response.model_name,
        "model_version": response.model_version,
        "id": response.id,
        "parameters": {
            name: getattr(parameter, parameter.WhichOneof("parameter_choice") or "")
            for name, parameter in response.parameters.items()
        },
        "outputs": [
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": list(tensor.shape),
                "data": [each.decode("utf-8") for each in tensor.contents.bytes_contents],
            }
            for tensor in response.outputs
        ],
    }


def json_of_metadata(metadata: pb.ModelMetadataResponse) -> dict[str, Any]:
    """The body that describes a model."""
    return {
        "name": metadata.name,
        "versions": list(metadata.versions),
        "platform": metadata.platform,
        "inputs": [_described(tensor) for tensor in metadata.inputs],
        "outputs": [_described(tensor) for tensor in metadata.outputs],
    }


def _described(tensor: pb.ModelMetadataResponse.TensorMetadata) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _input(value: object, path: str) -> dict[str, Any]:
    tensor = _object(value, path, _INPUT)
    data = _flat(tensor.get("data"), f"{path}.data")
    encoded = [base64.b64encode(text.encode("utf-8")).decode("ascii") for text in data]
    return {
        "name": tensor.get("name"),
        "shape": tensor.get("shape"),
        "datatype": tensor.get("datatype"),
        "parameters": _parameters(tensor.get("parameters"), f"{path}.parameters"),
        "contents": {"bytes_contents": encoded},
    }


def _output(value: object, path: str) -> dict[str, Any]:
    tensor = _object(value, path, _OUTPUT)
    parameters = _parameters(tensor.get("parameters"), f"{path}.parameters")
    return {"name": tensor.get("name"), "parameters": parameters}


def _flat(value: object, path: str) -> list[str]:
    """The elements: a list, or lists in lists, as the shape may have several dimensions."""
    while isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    if not isinstance(value, list):
        _fail("must be a list", path)
    for index, each in enumerate(value):
        if not isinstance(each, str):
            _fail("must be a text", f"{path}[{index}]")
    return value


def _parameters(value: object, path: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        _fail("must be an object", path)
    return {
        name: _parameter(each, f"{path}.{name[:_NAME_CHARS_MAX]}")
        for name, each in value.items()
        if name not in _BINARY or _is_binary(each, f"{path}.{name}")
    }


def _is_binary(value: object, path: str) -> bool:
    if value is False:
        return False
    return _fail("tensors come and go as JSON here; say false", path, Reason.PARAMETER_UNSUPPORTED)


def _parameter(value: object, path: str) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"bool_param": value}
    if isinstance(value, int):
        if not -_INT64_MAX <= value <= _UINT64_MAX:
            _fail("must have 64 bits", path, Reason.FIELD_OUT_OF_RANGE)
        return {"uint64_param" if value > _INT64_MAX else "int64_param": value}
    if isinstance(value, float):
        return {"double_param": value}
    if isinstance(value, str):
        return {"string_param": value}
    return _fail("must be a number, a text, true or false", path)


def _list(value: object, path: str) -> enumerate[Any]:
    if value is not None and not isinstance(value, list):
        _fail("must be a list", path)
    return enumerate(value or ())


def _object(value: object, path: str, keys: Collection[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        _fail("must be an object", path or "body")
    for key in value:
        if key not in keys:
            _fail(
                f"unknown; there are {', '.join(sorted(keys))}",
                f"{path}.{key[:_NAME_CHARS_MAX]}".lstrip("."),
            )
    return value


def _fail(message: str, field: str, reason: Reason = Reason.FIELD_MALFORMED) -> NoReturn:
    raise InvalidRequest(f"{field}: {message}", reason=reason, field=field)
