"""JSON schemas of requests (from the types that read them) and of answers."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gateway.openai import fields

__all__ = ["schemas"]

_REQUESTS: Final = (
    fields.ChatRequest,
    fields.CompletionRequest,
    fields.TokenizeRequest,
    fields.DetokenizeRequest,
)


def schemas() -> dict[str, Any]:
    """Name → schema, for `components.schemas`."""
    _, found = msgspec.json.schema_components(_REQUESTS, ref_template="#/components/schemas/{name}")
    return {**found, **_ANSWERS}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


_TEXT: Final = {"type": "string"}
_INT: Final = {"type": "integer"}
_LIST: Final = {"type": "array", "items": {"type": "object"}}

_MODEL: Final = _object(
    id=_TEXT,
    object={"const": "model"},
    created=_INT,
    owned_by=_TEXT,
    max_model_len=_INT,
    lepton=_LIST,
)

_ANSWER: Final = {
    "id": _TEXT,
    "created": _INT,
    "model": _TEXT,
    "system_fingerprint": _TEXT,
    "choices": _LIST,
    "usage": {"type": "object"},
}

_ANSWERS: Final[dict[str, Any]] = {
    "ChatCompletion": _object(object={"const": "chat.completion"}, **_ANSWER),
    "Completion": _object(object={"const": "text_completion"}, **_ANSWER),
    "Model": _MODEL,
    "ModelPage": _object(
        object={"const": "list"},
        data={"type": "array", "items": {"$ref": "#/components/schemas/Model"}},
    ),
    "Tokens": _object(count=_INT, tokens={"type": "array", "items": _INT}),
    "Text": _object(prompt=_TEXT),
    "Error": _object(
        error=_object(
            message=_TEXT,
            type=_TEXT,
            param={"type": ["string", "null"]},
            code={"type": "string", "description": "The reason of docs/errors.md in lower case."},
        )
    ),
}
