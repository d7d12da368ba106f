"""The part of the validator that looks at `constraint`: there, not empty, in bounds, not against other fields.

Whether a schema or grammar can be read and followed only the worker knows (`worker.runtime.grammar`).
"""

from __future__ import annotations

from typing import NoReturn

from common.errors import InvalidRequest, Reason
from common.limits import Limits
from lepton.v1 import inference_pb2, types_pb2

__all__ = ["validate_constraint"]


def validate_constraint(request: inference_pb2.GenerateRequest, limits: Limits) -> None:
    """Returns when `request.constraint` is absent or acceptable; raises `InvalidRequest` otherwise."""
    if not request.HasField("constraint"):
        return
    constraint = request.constraint
    kind = constraint.WhichOneof("kind")
    if kind is None:
        _fail(
            "constraint is empty: set json_schema, regex, grammar, json_object or literals, or leave it out",
            Reason.FIELD_REQUIRED,
            "constraint",
        )
    if request.stop.ignore_eos:
        _fail(
            "stop.ignore_eos contradicts constraint, which says where the answer ends; leave one of them out",
            Reason.FIELDS_CONTRADICT,
            "stop.ignore_eos",
        )
    if kind == "literals":
        _literals(constraint.literals, limits)
    elif kind != "json_object":
        text = getattr(constraint, kind)
        # An empty expression is one: it matches the empty answer.
        if not text and kind != "regex":
            _fail(f"{kind} is empty", Reason.FIELD_REQUIRED, f"constraint.{kind}")
        _size(len(text.encode()), limits, f"constraint.{kind}")


def _literals(literals: types_pb2.Literals, limits: Limits) -> None:
    field = "constraint.literals.texts"
    texts = literals.texts
    if not texts:
        _fail("literals has no texts; give at least one", Reason.FIELD_REQUIRED, field)
    if len(texts) > limits.literals_max:
        _fail(
            f"{len(texts)} literals; at most {limits.literals_max} are allowed (setting limits.literals_max)",
            Reason.FIELD_TOO_LARGE,
            field,
        )
    if not all(texts):
        _fail("a literal has at least one character", Reason.FIELD_OUT_OF_RANGE, field)
    if len(set(texts)) < len(texts):
        _fail("two literals are alike; give each once", Reason.FIELD_MALFORMED, field)
    _size(sum(len(text.encode()) for text in texts), limits, field)


def _size(num_bytes: int, limits: Limits, field: str) -> None:
    if num_bytes > limits.grammar_bytes_max:
        _fail(
            f"{field} has {num_bytes} bytes; at most {limits.grammar_bytes_max} are allowed "
            "(setting limits.grammar_bytes_max)",
            Reason.FIELD_TOO_LARGE,
            field,
        )


def _fail(message: str, reason: Reason, field: str) -> NoReturn:
    raise InvalidRequest(message, reason=reason, field=field)
