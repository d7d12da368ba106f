"""Asks a worker that was set aside whether its model still answers as it should."""

from __future__ import annotations

from typing import Final, final

import grpc

from common.logs import get_logger
from lepton.v1 import worker_pb2
from router.core.endpoint import Endpoint
from router.upstream.channels import Channels

__all__ = ["Prober"]

_METHOD: Final = "/lepton.v1.WorkerService/Probe"

_Probe = grpc.aio.UnaryUnaryMultiCallable[worker_pb2.ProbeRequest, worker_pb2.ProbeResponse]

log = get_logger(__name__)


@final
class Prober:
    """One Probe at a time is one call; `metadata` holds the cluster token."""

    def __init__(
        self, channels: Channels, *, metadata: tuple[tuple[str, str], ...], seconds_max: float
    ) -> None:
        self._channels = channels
        self._metadata = metadata
        self._seconds_max = seconds_max

    async def ask(self, endpoint: Endpoint) -> bool:
        """Whether the worker passed, within `seconds_max`. A worker of a release without probes passes: then its next
        calls are the test. Errors: none. Cancellation: cancels the probe.
        """
        channel = self._channels.acquire(endpoint.address)
        probe: _Probe = channel.unary_unary(
            _METHOD,
            request_serializer=worker_pb2.ProbeRequest.SerializeToString,
            response_deserializer=worker_pb2.ProbeResponse.FromString,
        )
        try:
            request = worker_pb2.ProbeRequest()
            answer = await probe(request, timeout=self._seconds_max, metadata=self._metadata)
            return answer.passed
        except grpc.aio.AioRpcError as error:
            log.info("probe.failed", worker_id=endpoint.id, code=error.code().name)
            return error.code() is grpc.StatusCode.UNIMPLEMENTED
        except Exception:
            # A fault of ours, or a worker that talks nonsense: it stays where it is.
            log.exception("probe.failed", worker_id=endpoint.id)
            return False
        finally:
            self._channels.release(endpoint.address)
