"""Are two requests the same? Their hash, without what only names them or says where to go on."""

from __future__ import annotations

from hashlib import sha256

from lepton.v1 import inference_pb2

__all__ = ["fingerprint_of"]

_NAMES = ("request_id", "idempotency_key", "resume", "continuation")


def fingerprint_of(request: inference_pb2.GenerateRequest) -> bytes:
    """32 bytes that are equal for requests that ask for the same in the same way."""
    bare = inference_pb2.GenerateRequest()
    bare.CopyFrom(request)
    for name in _NAMES:
        bare.ClearField(name)
    return sha256(bare.SerializeToString(deterministic=True)).digest()
