"""The numbers between engine and users come out of a real engine."""

from __future__ import annotations

import os
import time

import pytest

from loadtest.latency.cpu import cpu_s, rss_bytes
from loadtest.latency.engine import engine_rows
from tests.support.processes import ROOT

DEMO = ROOT / "models" / "demo"


def test_a_long_prompt_and_a_second_turn() -> None:
    long_prompt, second_turn = engine_rows(DEMO, mode="exact", threads=1, context_max=1024)
    assert "one prompt of 960 tokens" in long_prompt.what
    assert "512 shared tokens" in second_turn.what
    assert long_prompt.value > 0
    assert second_turn.value > 0
    assert long_prompt.is_met in (True, False)


def test_processor_time_and_memory_are_those_of_the_process() -> None:
    before, began = cpu_s(os.getpid()), time.process_time()
    while time.process_time() - began < 0.1:
        sum(range(1000))
    # The kernel counts in ticks of 10 ms; other threads of this process may have worked, too.
    assert cpu_s(os.getpid()) - before >= 0.08
    assert 10 << 20 < rss_bytes(os.getpid()) < 100 << 30


def test_a_process_that_is_gone_has_none() -> None:
    with pytest.raises(OSError, match="No such file"):
        cpu_s(1 << 30)
