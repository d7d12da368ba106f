"""One text in a tensor: `BYTES`, one element, written as contents or raw.

raw    05 00 00 00  h e l l o      length (little-endian) and bytes of each element
"""

from __future__ import annotations

import struct
from typing import Final, NoReturn

from common.errors import InvalidRequest, Reason
from lepton.kserve.v2 import open_inference_pb2 as pb

__all__ = ["DATATYPE", "TEXT_INPUT", "raw_of", "text_of"]

TEXT_INPUT: Final = "text_input"
DATATYPE: Final = "BYTES"

_LENGTH: Final = struct.Struct("<I")
_DIMENSIONS_MAX: Final = 8


def text_of(request: pb.ModelInferRequest) -> str:
    """The text that comes in. Raises `InvalidRequest` naming what is wrong with the tensors."""
    if len(request.inputs) != 1:
        _fail(f"there must be one tensor, {TEXT_INPUT}", "inputs", Reason.FIELD_REQUIRED)
    tensor = request.inputs[0]
    if tensor.name != TEXT_INPUT:
        _fail(f"the tensor must be called {TEXT_INPUT}", "inputs[0].name")
    if tensor.datatype != DATATYPE:
        _fail(f"the datatype must be {DATATYPE}", "inputs[0].datatype")
    if not 1 <= len(tensor.shape) <= _DIMENSIONS_MAX or set(tensor.shape) != {1}:
        _fail("a request takes one text: the shape must be [1] or [1, 1]", "inputs[0].shape")
    if tensor.parameters:
        _fail("tensors have no parameters; requests have", "inputs[0].parameters")
    try:
        return _element(request, tensor).decode("utf-8")
    except UnicodeDecodeError as error:
        return _fail(f"the text is not UTF-8 (byte {error.start})", "inputs[0]")


def raw_of(text: str) -> bytes:
    """A tensor of one text, raw."""
    data = text.encode("utf-8")
    return _LENGTH.pack(len(data)) + data


def _element(request: pb.ModelInferRequest, tensor: pb.ModelInferRequest.InferInputTensor) -> bytes:
    contents = tensor.contents.bytes_contents
    raw = request.raw_input_contents
    if not raw:
        if len(contents) != 1:
            _fail("the tensor must have one element", "inputs[0].contents.bytes_contents")
        return contents[0]
    if contents:
        _fail("an element is either raw or in contents", "inputs[0].contents")
    data = raw[0] if len(raw) == 1 else b""
    if len(data) < _LENGTH.size or _LENGTH.unpack_from(data)[0] != len(data) - _LENGTH.size:
        _fail("must be one element: its length in 4 bytes, and its bytes", "raw_input_contents")
    return data[_LENGTH.size :]


def _fail(message: str, field: str, reason: Reason = Reason.FIELD_MALFORMED) -> NoReturn:
    raise InvalidRequest(f"{field}: {message}", reason=reason, field=field)
