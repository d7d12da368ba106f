"""Token counts in OpenAI's form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lepton.v1 import types_pb2

__all__ = ["usage_of"]


def usage_of(counts: Iterable[types_pb2.Usage]) -> dict[str, Any]:
    """The sum over the calls of one request."""
    every = list(counts)
    prompt = sum(usage.prompt_tokens for usage in every)
    completion = sum(usage.completion_tokens for usage in every)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(usage.cached_tokens for usage in every)},
    }
