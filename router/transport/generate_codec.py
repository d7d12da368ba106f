"""The router's reader of Generate messages: for streams that lost their worker, suspects, and hidden ids alone."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, final

from google.protobuf.message import DecodeError

from common.request.record import GenerateRecord
from lepton.v1 import inference_pb2, types_pb2

__all__ = ["ProtoGenerateCodec"]

_NAMES: Final = (
    "request_id",
    "revision",
    "session_key",
    "idempotency_key",
    "resumable_ms",
    "resume",
    "continuation",
    "priority",
    "service_level",
)
"""What a request is called and how it is treated, not what is computed. The revision is among them because it is pinned
once a stream has begun."""

_WITH_IDS: Final = inference_pb2.GenerateRequest(
    output=types_pb2.OutputOptions(token_ids=True)
).SerializeToString()


@final
class ProtoGenerateCodec:
    """`router.core.ports.GenerateCodec`; has no state."""

    def new_record(self, payload: bytes, *, is_resumed: bool) -> GenerateRecord:
        """See `GenerateCodec.new_record`."""
        return GenerateRecord(payload, first_seq=None if is_resumed else 0)

    def fingerprint(self, payload: bytes) -> bytes:
        """See `GenerateCodec.fingerprint`; 16 bytes. `payload` is a valid request."""
        request = inference_pb2.GenerateRequest.FromString(payload)
        for name in _NAMES:
            request.ClearField(name)
        request.output.ClearField("token_ids")
        request.DiscardUnknownFields()
        return blake2b(request.SerializeToString(deterministic=True), digest_size=16).digest()

    def has_output(self, message: bytes) -> bool:
        """See `GenerateCodec.has_output`."""
        try:
            response = inference_pb2.GenerateResponse.FromString(message)
        except DecodeError:
            return False
        return any(event.HasField("delta") for event in response.events)

    def with_token_ids(self, payload: bytes) -> bytes:
        """See `GenerateCodec.with_token_ids`."""
        return payload + _WITH_IDS  # messages merge by concatenation

    def without_token_ids(self, message: bytes) -> bytes:
        """See `GenerateCodec.without_token_ids`. What cannot be read is passed on as it is."""
        try:
            response = inference_pb2.GenerateResponse.FromString(message)
        except DecodeError:
            return message
        for event in response.events:
            if event.HasField("delta"):
                event.delta.ClearField("token_ids")
        return response.SerializeToString()
