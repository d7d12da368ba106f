"""The Python client of Lepton: streams, retries, resumption and direct mode over the generated stubs of `lepton.v1`."""

from lepton_client.aio_client import AsyncClient
from lepton_client.aio_streams import AsyncEventStream, AsyncTextStream
from lepton_client.answer import Answer
from lepton_client.channels import tls
from lepton_client.client import Client
from lepton_client.errors import (
    Cancelled,
    DeadlineExceeded,
    Forbidden,
    Internal,
    InvalidRequest,
    LeptonError,
    NotFound,
    Overloaded,
    Refused,
    Unavailable,
    Unsupported,
)
from lepton_client.options import ClientOptions
from lepton_client.reconnection import Reconnection
from lepton_client.requests import Fields
from lepton_client.retry import ResumePolicy, RetryPolicy
from lepton_client.routers import check_address
from lepton_client.streams import EventStream, TextStream

__all__ = [
    "Answer",
    "AsyncClient",
    "AsyncEventStream",
    "AsyncTextStream",
    "Cancelled",
    "Client",
    "ClientOptions",
    "DeadlineExceeded",
    "EventStream",
    "Fields",
    "Forbidden",
    "Internal",
    "InvalidRequest",
    "LeptonError",
    "NotFound",
    "Overloaded",
    "Reconnection",
    "Refused",
    "ResumePolicy",
    "RetryPolicy",
    "TextStream",
    "Unavailable",
    "Unsupported",
    "check_address",
    "tls",
]
