"""How a body of ModelInfer looks, for the reference; what reads bodies says more precisely what is wrong with one."""

from __future__ import annotations

from typing import Final

from gateway.kserve.request import OUTPUTS
from gateway.kserve.tensors import DATATYPE, TEXT_INPUT

__all__ = ["SCHEMA"]

_PLAIN: Final = {"type": ["boolean", "number", "string"]}
SCHEMA: Final = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "maxLength": 128},
        "parameters": {"type": "object", "additionalProperties": _PLAIN},
        "inputs": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "name": {"const": TEXT_INPUT},
                    "datatype": {"const": DATATYPE},
                    "shape": {"type": "array", "items": {"const": 1}, "minItems": 1},
                    "data": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                },
                "required": ["name", "datatype", "shape", "data"],
            },
        },
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"enum": list(OUTPUTS)}},
                "required": ["name"],
            },
        },
    },
    "required": ["inputs"],
}
