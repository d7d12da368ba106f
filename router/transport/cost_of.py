"""What a request will take, guessed without a tokenizer.

The guess orders calls and shares capacity; only relations matter, the router learns the speed in the same measure.
"""

from __future__ import annotations

from typing import Final

from common.limits import Limits
from lepton.v1 import inference_pb2
from router.core.call import BYTES_PER_TOKEN, Cost

__all__ = ["cost_of"]

_OUTPUT_TOKENS_MAX: Final = 1024
"""A larger `max_tokens` is rarely used up, and must not put its caller at the end of every order."""


def cost_of(request: inference_pb2.GenerateRequest, num_bytes: int, limits: Limits) -> Cost:
    """Of a valid Generate request, `num_bytes` long on the wire."""
    ids = len(request.token_ids.ids) if request.HasField("token_ids") else 0
    prompt = ids or num_bytes // BYTES_PER_TOKEN
    asked = request.stop.max_tokens if request.stop.HasField("max_tokens") else 0
    output = min(asked or limits.max_tokens_default, _OUTPUT_TOKENS_MAX)
    choices = max(1, request.sampling.n)
    return Cost(tokens=prompt + output * choices, rows=choices, num_bytes=num_bytes)
