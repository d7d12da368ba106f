"""When a stream counts as silent."""

from __future__ import annotations

from lepton_client.silence import Silence


class Clock:
    now = 100.0


def test_only_the_time_that_somebody_waits_counts() -> None:
    clock = Clock()
    silence = Silence(10.0, lambda: clock.now)
    silence.begins()
    clock.now += 6
    assert silence.left_s() == 4
    silence.ends()
    clock.now += 60  # the reader thinks
    assert silence.left_s() == 10
    silence.begins()
    clock.now += 9
    assert (silence.left_s(), silence.is_over) == (1, False)
    clock.now += 1
    assert (silence.left_s(), silence.is_over) == (0, True)
    assert silence.error.code == "UNAVAILABLE"
    assert silence.error.message == "silent for 10 s"
