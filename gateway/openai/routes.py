"""The routes of the OpenAI dialect."""

from __future__ import annotations

from fastapi import FastAPI

from gateway.frame import Frame

__all__ = ["mount"]


def mount(app: FastAPI, frame: Frame) -> None:
    """Adds `/v1/…`, `/tokenize` and `/detokenize`."""
