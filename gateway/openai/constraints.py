"""`response_format`, and vLLM's names for the same, as a `Constraint`."""

from __future__ import annotations

import json
from typing import Any, Final

from common.errors import InvalidRequest, Reason
from gateway.openai.fields import ResponseFormat, Sampling, StructuredOutputs
from lepton.v1 import types_pb2

__all__ = ["constraint_name", "constraint_of"]

_FORMATS: Final = ("text", "json_object", "json_schema")


_NAMES: Final = (
    "response_format",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
)


def constraint_name(request: Sampling, *, otherwise: str = "response_format") -> str:
    """What the request calls its constraint; `otherwise` when it says none, and one was made of something else."""
    return next((name for name in _NAMES if getattr(request, name) is not None), otherwise)


def constraint_of(request: Sampling) -> types_pb2.Constraint | None:
    """What every answer must follow.

    Raises `InvalidRequest` with FIELDS_CONTRADICT when it says so twice, FIELD_REQUIRED or FIELD_MALFORMED.
    """
    found: dict[str, types_pb2.Constraint] = {}
    if request.response_format is not None:
        constraint = _of_format(request.response_format)
        if constraint is not None:
            found["response_format"] = constraint
    if request.structured_outputs is not None:
        found["structured_outputs"] = _of_structured(request.structured_outputs)
    guided = StructuredOutputs(
        json=request.guided_json,
        regex=request.guided_regex,
        choice=request.guided_choice,
        grammar=request.guided_grammar,
    )
    for kind in guided.__struct_fields__:
        if (value := getattr(guided, kind)) is not None:
            found[f"guided_{kind}"] = _made(kind, value)
    if len(found) > 1:
        raise InvalidRequest(
            f"{' and '.join(found)} both say what the answer must follow; keep one",
            reason=Reason.FIELDS_CONTRADICT,
            field=list(found)[1],
        )
    return next(iter(found.values()), None)


def _of_format(wanted: ResponseFormat) -> types_pb2.Constraint | None:
    if wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return types_pb2.Constraint(json_object=types_pb2.JsonObject())
    if wanted.type != "json_schema":
        raise InvalidRequest(
            f"response_format.type is one of {', '.join(_FORMATS)}",
            reason=Reason.FIELD_MALFORMED,
            field="response_format.type",
        )
    schema = wanted.json_schema.schema if wanted.json_schema else None
    if schema is None:
        raise InvalidRequest(
            "response_format.json_schema.schema is required with the type json_schema",
            reason=Reason.FIELD_REQUIRED,
            field="response_format.json_schema.schema",
        )
    return _made("json", schema)


def _of_structured(wanted: StructuredOutputs) -> types_pb2.Constraint:
    said = {kind: value for kind in wanted.__struct_fields__ if (value := getattr(wanted, kind))}
    if len(said) != 1:
        raise InvalidRequest(
            f"structured_outputs takes exactly one of {', '.join(wanted.__struct_fields__)}",
            reason=Reason.FIELDS_CONTRADICT if said else Reason.FIELD_REQUIRED,
            field="structured_outputs",
        )
    ((kind, value),) = said.items()
    return _made(kind, value)


def _made(kind: str, value: Any) -> types_pb2.Constraint:
    match kind:
        case "json":
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            return types_pb2.Constraint(json_schema=text)
        case "regex":
            return types_pb2.Constraint(regex=value)
        case "grammar":
            return types_pb2.Constraint(grammar=value)
        case "choice":
            return types_pb2.Constraint(literals=types_pb2.Literals(texts=value))
        case _:
            return types_pb2.Constraint(json_object=types_pb2.JsonObject())
