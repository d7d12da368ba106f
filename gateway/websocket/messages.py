"""What is said on a socket: texts of JSON, each an object with a `type`. `schema.json` describes them in full.

client                                   server
start   id, request, timeout_s?          event   id, event | events
resume  id, request, resume_token,       end     id                 the answer is whole
        after_seq?, timeout_s?           error   id, error          it is not, and will not be
cancel  id                               fault   error              a text was no message, and did nothing
ping                                     pong
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import msgspec

from common.errors import InvalidRequest, LeptonError, Reason
from common.rpc.status import codes_of
from gateway.http.json_text import parse_json
from gateway.json_form import as_json, from_json
from lepton.v1 import inference_pb2

__all__ = [
    "ID_CHARS_MAX",
    "PONG",
    "Envelope",
    "end_text",
    "error_text",
    "events_text",
    "fault_text",
    "read_envelope",
    "read_request",
    "read_timeout",
]

ID_CHARS_MAX: Final = 128
"""Longest `id`."""

PONG: Final = '{"type":"pong"}'

_KEYS: Final = {
    "start": frozenset({"type", "id", "request", "timeout_s"}),
    "resume": frozenset({"type", "id", "request", "timeout_s", "resume_token", "after_seq"}),
    "cancel": frozenset({"type", "id"}),
    "ping": frozenset({"type"}),
}
_WORDS_MAX: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A message whose kind and generation are known, and nothing else of it."""

    type: str
    """A key of the table above."""
    id: str
    """Empty in a `ping`."""
    body: dict[str, Any]


def read_envelope(text: str, *, depth_max: int, values_max: int) -> Envelope:
    """What a client's text is about.

    Raises `InvalidRequest` where no generation can be told that it is wrong: the text is not JSON, or has no known type
    or no id.
    """
    body = parse_json(text.encode("utf-8"), depth_max=depth_max, values_max=values_max)
    if not isinstance(body, dict):
        _fail("a message must be an object", "")
    kind = body.get("type")
    if not isinstance(kind, str) or kind not in _KEYS:
        _fail(f"the type must be one of {', '.join(_KEYS)}", "type")
    if kind == "ping":
        _check_keys(kind, body)
        return Envelope(type=kind, id="", body=body)
    generation_id = body.get("id")
    if not isinstance(generation_id, str) or not 1 <= len(generation_id) <= ID_CHARS_MAX:
        _fail(f"the id must be a text of 1 to {ID_CHARS_MAX} characters", "id")
    return Envelope(type=kind, id=generation_id, body=body)


def read_request(said: Envelope) -> inference_pb2.GenerateRequest:
    """The request of a `start` or `resume`.

    Raises `InvalidRequest`; its field is a path in the message for what stands around the request, and as on every
    other door for what stands in it.
    """
    _check_keys(said.type, said.body)
    if "request" not in said.body:
        _fail("a request is required", "request", Reason.FIELD_REQUIRED)
    request = from_json(inference_pb2.GenerateRequest, said.body["request"])
    if said.type == "resume":
        if request.HasField("resume"):
            _fail("say where to go on in the message or in its request", "resume", _CONTRADICT)
        where = {key: said.body[key] for key in ("resume_token", "after_seq") if key in said.body}
        request.resume.CopyFrom(from_json(inference_pb2.ResumeFrom, where))
    return request


def read_timeout(said: Envelope) -> float | None:
    """Seconds that the answer may take; None when the message does not say. Raises `InvalidRequest`."""
    timeout_s = said.body.get("timeout_s")
    if timeout_s is None:
        return None
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float):
        _fail("must be a number of seconds", "timeout_s")
    if not (timeout_s > 0 and math.isfinite(timeout_s)):
        _fail("must be more than 0 seconds", "timeout_s", Reason.FIELD_OUT_OF_RANGE)
    return float(timeout_s)


def events_text(generation_id: str, events: Sequence[inference_pb2.Event]) -> str:
    """One message for all of `events`, of which there is at least one."""
    told: dict[str, Any] = {"type": "event", "id": generation_id}
    if len(events) == 1:
        told["event"] = as_json(events[0])
    else:
        told["events"] = [as_json(event) for event in events]
    return _text(told)


def end_text(generation_id: str) -> str:
    """The last message of an answer that is whole."""
    return _text({"type": "end", "id": generation_id})


def error_text(generation_id: str, error: LeptonError, request_id: str) -> str:
    """The last message of one that is not."""
    return _text({"type": "error", "id": generation_id, "error": _explained(error, request_id)})


def fault_text(error: LeptonError, request_id: str) -> str:
    """Answers a text that is about no generation that could be named."""
    return _text({"type": "fault", "error": _explained(error, request_id)})


def _explained(error: LeptonError, request_id: str) -> dict[str, Any]:
    return {
        "code": codes_of(error).grpc.name,
        "reason": error.reason.value,
        "message": error.message.encode("utf-8", "replace").decode("utf-8"),
        "field": error.field,
        "retry_after_s": error.retry_after_s,
        "request_id": request_id,
    }


_CONTRADICT: Final = Reason.FIELDS_CONTRADICT


def _check_keys(kind: str, body: dict[str, Any]) -> None:
    for key in body:
        if key not in _KEYS[kind]:
            known = ", ".join(sorted(_KEYS[kind]))
            _fail(f"a message of type {kind} has {known}", key[:_WORDS_MAX])


def _text(told: dict[str, Any]) -> str:
    return msgspec.json.encode(told).decode("utf-8")


def _fail(message: str, field: str, reason: Reason = Reason.FIELD_MALFORMED) -> NoReturn:
    raise InvalidRequest(
        f"{field}: {message}" if field else message, reason=reason, field=field or None
    )
