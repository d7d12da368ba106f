"""Server reflection, so that `grpcurl` and `buf curl` need no proto files.

grpcio ships v1alpha only. v1 has the same messages under another service name, so one servicer answers for both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, final

import grpc
from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2

# Imported for their descriptors: handlers that pass bytes through import no message types.
from lepton.v1 import inference_pb2 as _inference  # noqa: F401
from lepton.v1 import router_pb2 as _router  # noqa: F401
from lepton.v1 import worker_pb2 as _worker  # noqa: F401

__all__ = ["SERVICE_NAMES", "add_reflection"]

SERVICE_NAMES: Final = (
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)


def add_reflection(server: grpc.aio.Server, services: Iterable[str]) -> None:
    """Adds both versions of the reflection service; they list `services` and the v1alpha one, whose files we have."""
    servicer = reflection.aio.ReflectionServicer(
        (*services, reflection.SERVICE_NAME), pool=_MethodsToo()
    )
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler})
            for name in SERVICE_NAMES
        )
    )


@final
class _MethodsToo:
    """The default descriptor pool, which also finds a method's file (`grpcurl describe package.Service.Method`)."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:  # noqa: N802 - the name in protobuf
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            found = self._pool.FindServiceByName(service)
            if method not in found.methods_by_name:
                raise
            return found.file
