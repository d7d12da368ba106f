"""Who may wait, and when the refused should come back; bounds that do not go together."""

from __future__ import annotations

import pytest

from common.errors import Overloaded, Reason
from worker.engine.config import EngineConfig
from worker.engine.queue import Waiting, check_room
from worker.engine.speed import Speed

CONFIG = EngineConfig(waiting_sequences_max=10, waiting_tokens_max=1000, retry_after_s_max=20)
UNKNOWN = Speed()


@pytest.mark.parametrize(
    ("waiting", "added"),
    [
        (Waiting(9, 100), Waiting(1, 900)),
        (Waiting(0, 0), Waiting(1, 5000)),
        (Waiting(0, 0), Waiting(50, 50)),
    ],
    ids=["exactly full", "a long prompt alone", "many choices alone"],
)
def test_room(waiting: Waiting, added: Waiting) -> None:
    check_room(waiting, added, config=CONFIG, speed=UNKNOWN)


@pytest.mark.parametrize(
    ("waiting", "added", "speed", "retry_after_s"),
    [
        (Waiting(10, 10), Waiting(1, 1), UNKNOWN, 1.0),
        (Waiting(10, 10), Waiting(1, 1), Speed(starts_per_s=2.0), 0.5),
        (Waiting(10, 10), Waiting(4, 4), Speed(starts_per_s=2.0), 2.0),
        (Waiting(1, 900), Waiting(1, 400), Speed(prefill_tokens_per_s=100.0), 3.0),
        (Waiting(1, 900), Waiting(1, 101), Speed(prefill_tokens_per_s=1e9), 0.1),
        (Waiting(10, 10), Waiting(1, 1), Speed(starts_per_s=1e-6), 20.0),
        (
            Waiting(10, 1000),
            Waiting(1, 200),
            Speed(starts_per_s=1.0, prefill_tokens_per_s=100.0),
            2.0,
        ),
    ],
    ids=[
        "unknown speed",
        "one too many",
        "four too many",
        "tokens",
        "never less than a tenth",
        "never more than the setting",
        "the slower of both",
    ],
)
def test_no_room(waiting: Waiting, added: Waiting, speed: Speed, retry_after_s: float) -> None:
    with pytest.raises(Overloaded) as refused:
        check_room(waiting, added, config=CONFIG, speed=speed)
    assert refused.value.reason is Reason.QUEUE_FULL
    assert refused.value.retry_after_s == pytest.approx(retry_after_s)


@pytest.mark.parametrize(
    "bad",
    [
        {"waiting_sequences_max": 0},
        {"step_ms_max": 0.0},
        {"step_ms_max": float("nan")},
        {"chunk_tokens_min": 3},
        {"chunk_tokens_min": 600},
        {"chunk_tokens_first": 8},
        {"chunk_stretch": 1.0},
        {"chunk_patience_s": 0.0},
        {"overtaken_max": 0},
    ],
)
def test_a_config_that_cannot_work_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        EngineConfig(**bad)  # type: ignore[arg-type]
