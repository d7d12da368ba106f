"""What chunks say beside OpenAI's fields, under the key `lepton`: who answers, where a stream went, how long it took.

It rides on chunks that are sent anyway, so that clients which look at `choices[0]` of each find one.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from lepton.v1 import inference_pb2

__all__ = ["of_finished", "of_migrated", "of_started"]

_encode: Final = msgspec.json.Encoder().encode


def of_started(started: inference_pb2.Started) -> bytes:
    """On the first chunk: worker, revision and seed."""
    return _beside(worker=started.worker_id, revision=started.revision, seed=started.seed)


def of_migrated(migrated: inference_pb2.Migrated) -> bytes:
    """On the first chunk from another worker."""
    moved = {
        "from": migrated.from_worker_id,
        "to": migrated.to_worker_id,
        "replayed_tokens": migrated.replayed_tokens,
    }
    return _beside(migrated=moved)


def of_finished(finished: inference_pb2.Finished) -> bytes:
    """On the chunk with the usage: microseconds at the worker, as `Timings` has them."""
    spent = finished.timings
    timings = {
        "tokenize_us": spent.tokenize_us,
        "queue_us": spent.queue_us,
        "prefill_us": spent.prefill_us,
        "decode_us": spent.decode_us,
    }
    return _beside(timings=timings)


def _beside(**said: Any) -> bytes:
    return b',"lepton":' + _encode(said)
