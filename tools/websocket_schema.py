"""The JSON schema of the WebSocket messages, made from the protos and their comments."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorSet,
)

PROTOS = Path(__file__).resolve().parents[1] / "protos"
SOURCES = ("lepton/v1/types.proto", "lepton/v1/inference.proto")
ROOTS = ("GenerateRequest", "Event")

_REF = "#/$defs/"
_ID = {"type": "string", "minLength": 1, "maxLength": 128}
_TIMEOUT = {
    "type": "number",
    "exclusiveMinimum": 0,
    "description": "Seconds that the whole answer may take; at most, and by default, `limits.deadline_s_max`.",
}
_WIDE = {"type": ["integer", "string"], "pattern": "^-?[0-9]{1,20}$"}
_SCALARS: dict[int, dict[str, Any]] = {
    FieldDescriptorProto.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptorProto.TYPE_STRING: {"type": "string"},
    FieldDescriptorProto.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptorProto.TYPE_FLOAT: {"type": "number"},
    FieldDescriptorProto.TYPE_DOUBLE: {"type": "number"},
    FieldDescriptorProto.TYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    FieldDescriptorProto.TYPE_INT32: {
        "type": "integer",
        "minimum": -(2**31),
        "maximum": 2**31 - 1,
    },
    FieldDescriptorProto.TYPE_UINT64: _WIDE,
    FieldDescriptorProto.TYPE_INT64: _WIDE,
}


def schema_text() -> str:
    """The schema as it stands in gateway/websocket/schema.json."""
    return json.dumps(_schema(_Protos()), indent=1, ensure_ascii=False) + "\n"


class _Protos:
    """The messages and enums of the protos, with their comments, by name."""

    def __init__(self) -> None:
        self.messages: dict[str, DescriptorProto] = {}
        self.enums: dict[str, EnumDescriptorProto] = {}
        self.comments: dict[tuple[str, ...], str] = {}
        for file in _described().file:
            found = {tuple(at.path): at.leading_comments for at in file.source_code_info.location}
            for number, message in enumerate(file.message_type):
                self.messages[message.name] = message
                self.comments[message.name,] = _words(found.get((4, number), ""))
                for place, field in enumerate(message.field):
                    words = _words(found.get((4, number, 2, place), ""))
                    self.comments[message.name, field.name] = words
            for number, enum in enumerate(file.enum_type):
                self.enums[enum.name] = enum
                self.comments[enum.name,] = _words(found.get((5, number), ""))


def _described() -> FileDescriptorSet:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}"]
        command += ["--include_source_info", f"--descriptor_set_out={out}", *SOURCES]
        subprocess.run(command, check=True)
        return FileDescriptorSet.FromString(out.read_bytes())


def _words(comment: str) -> str:
    return " ".join(comment.split())


def _schema(protos: _Protos) -> dict[str, Any]:
    client = ("Start", "Resume", "Cancel", "Ping")
    server = ("Events", "End", "Failed", "Fault", "Pong")
    defs: dict[str, Any] = {
        "ClientMessage": {"oneOf": [{"$ref": _REF + name} for name in client]},
        "ServerMessage": {"oneOf": [{"$ref": _REF + name} for name in server]},
        **_client_messages(),
        **_server_messages(),
    }
    for name in _reached(protos):
        defs[name] = (
            _enum(protos, name) if name in protos.enums else _message(protos, protos.messages[name])
        )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Messages on /v1/ws, subprotocol lepton.v1",
        "description": "Made from the protos by `make docs`. Requests may also spell names in camelCase, and enums by "
        "number, as protobuf's JSON form allows.",
        "oneOf": [{"$ref": _REF + "ClientMessage"}, {"$ref": _REF + "ServerMessage"}],
        "$defs": defs,
    }


def _client_messages() -> dict[str, Any]:
    request = {"request": {"$ref": _REF + "GenerateRequest"}}
    after = {"resume_token": {"type": "string"}, "after_seq": _WIDE}
    return {
        "Start": _said("start", "Begins a generation.", request, timeout_s=_TIMEOUT),
        "Resume": _said(
            "resume",
            "Goes on with a resumable one; the request is that of its start.",
            request,
            timeout_s=_TIMEOUT,
            **after,
        ),
        "Cancel": _said("cancel", "Ends a generation before its time.", {}),
        "Ping": _said("ping", "Asks for a pong.", None),
    }


def _server_messages() -> dict[str, Any]:
    event = {"$ref": _REF + "Event"}
    error = {
        "type": "object",
        "properties": {
            "code": {"type": "string", "description": "gRPC code by name."},
            "reason": {"type": "string", "description": "Of docs/errors.md."},
            "message": {"type": "string"},
            "field": {"type": ["string", "null"]},
            "retry_after_s": {"type": ["number", "null"]},
            "request_id": {"type": "string", "description": "In logs and traces."},
        },
        "required": ["code", "reason", "message", "field", "retry_after_s", "request_id"],
    }
    several = {"type": "array", "items": event, "minItems": 2}
    events = _said("event", "One event, or several.", {}, event=event, events=several)
    events["oneOf"] = [{"required": ["event"]}, {"required": ["events"]}]
    fault = _said("fault", "A text was no message; it did nothing.", None, error=error)
    fault["required"] = ["type", "error"]
    return {
        "Events": events,
        "End": _said("end", "The answer is whole; nothing more comes for this id.", {}),
        "Failed": _said("error", "The answer is not; nothing more comes.", {"error": error}),
        "Fault": fault,
        "Pong": _said("pong", "Answers a ping.", None),
    }


def _said(
    kind: str, words: str, required: dict[str, Any] | None, **optional: Any
) -> dict[str, Any]:
    """A message; one without `required` has no id either."""
    needed = {"type": {"const": kind}}
    if required is not None:
        needed |= {"id": _ID, **required}
    return {
        "type": "object",
        "description": words,
        "properties": {**needed, **optional},
        "required": list(needed),
        "additionalProperties": False,
    }


def _reached(protos: _Protos) -> list[str]:
    """Every message and enum below the roots, each before what it needs."""
    reached: dict[str, None] = dict.fromkeys(ROOTS)
    todo = list(ROOTS)
    while todo:
        message = protos.messages.get(todo.pop(0))
        for field in message.field if message else ():
            name = field.type_name.rpartition(".")[2]
            if name and name not in reached and _map_entry(message, field) is None:
                reached[name] = None
                todo.append(name)
    return list(reached)


def _message(protos: _Protos, message: DescriptorProto) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "object",
        "description": protos.comments[message.name,],
        "properties": {
            field.name: {
                **_field(message, field),
                "description": protos.comments[message.name, field.name],
            }
            for field in message.field
        },
        "additionalProperties": False,
    }
    if groups := list(_one_ofs(message)):
        made["allOf"] = groups
    return made


def _one_ofs(message: DescriptorProto) -> Iterator[dict[str, Any]]:
    for number, _ in enumerate(message.oneof_decl):
        members = [
            field.name
            for field in message.field
            if field.HasField("oneof_index")
            and field.oneof_index == number
            and not field.proto3_optional
        ]
        if members:
            each = [{"required": [name]} for name in members]
            yield {"oneOf": [*each, {"not": {"anyOf": each}}]}


def _field(message: DescriptorProto, field: FieldDescriptorProto) -> dict[str, Any]:
    if (entry := _map_entry(message, field)) is not None:
        return {"type": "object", "additionalProperties": _one(entry.field[1])}
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return {"type": "array", "items": _one(field)}
    return _one(field)


def _map_entry(message: DescriptorProto, field: FieldDescriptorProto) -> DescriptorProto | None:
    name = field.type_name.rpartition(".")[2]
    entries = (nested for nested in message.nested_type if nested.options.map_entry)
    return next((entry for entry in entries if entry.name == name), None)


def _one(field: FieldDescriptorProto) -> dict[str, Any]:
    if field.type_name:
        return {"$ref": _REF + field.type_name.rpartition(".")[2]}
    return dict(_SCALARS[field.type])


def _enum(protos: _Protos, name: str) -> dict[str, Any]:
    names = [value.name for value in protos.enums[name].value]
    return {"enum": names, "description": protos.comments[name,]}
