"""Are two requests the same? Their hash, without what only names them or says where to go on.

Nor does the revision count: a router that moves a stream pins it, and a worker has only one.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from lepton.v1 import inference_pb2

__all__ = ["fingerprint_of"]

_NAMES: Final = ("request_id", "revision", "idempotency_key", "resume", "continuation")


def fingerprint_of(request: inference_pb2.GenerateRequest) -> bytes:
    """32 bytes that are equal for requests that ask for the same in the same way."""
    bare = inference_pb2.GenerateRequest()
    bare.CopyFrom(request)
    for name in _NAMES:
        bare.ClearField(name)
    return sha256(bare.SerializeToString(deterministic=True)).digest()
