"""Where Lepton's entries stand in etcd."""

from __future__ import annotations

from typing import Final

__all__ = ["WORKERS", "id_of", "key_of", "range_end"]

WORKERS: Final = b"/lepton/v1/workers/"
"""Prefix of the keys of workers; the worker id follows."""


def key_of(worker_id: str) -> bytes:
    """The key of a worker."""
    return WORKERS + worker_id.encode()


def id_of(key: bytes) -> str:
    """The worker id in a key under `WORKERS`; bytes that are no text are escaped."""
    return key.removeprefix(WORKERS).decode("utf-8", errors="backslashreplace")


def range_end(prefix: bytes) -> bytes:
    """The first key behind all keys with this prefix, which must not end with 0xff."""
    return prefix[:-1] + bytes([prefix[-1] + 1])
