"""The parts of the doors' benchmark that count and judge."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loadtest.doors.__main__ import aims
from loadtest.doors.client import _Stream
from loadtest.router.measure import Figures

CHUNK = b'data: {"id":"c","choices":[{"index":0,"text":" measure","finish_reason":null}]}\n\n'


@given(st.lists(st.integers(1, 400), max_size=20))
def test_tokens_are_counted_once_however_the_bytes_are_cut(sizes: list[int]) -> None:
    ends: list[_Stream] = []
    firsts: list[None] = []
    stream = _Stream(lambda: firsts.append(None), ends.append)
    data = b"HTTP/1.1 200 OK\r\n\r\n" + CHUNK * 20 + b"data: [DONE]\n\n"
    for size in [*sizes, len(data)]:
        piece, data = data[:size], data[size:]
        if piece:
            stream.data_received(piece)
    assert (stream.tokens, len(ends), len(firsts)) == (20, 1, 1)


def test_the_aims_compare_round_by_round() -> None:
    grpc = Figures(
        way="gRPC", processes=1, flood_cpu_us=[10, 20], steps_cpu_us=[1], first_p50_ms=[1]
    )
    rest = Figures(
        way="REST", processes=1, flood_cpu_us=[12, 28], steps_cpu_us=[2], first_p50_ms=[4]
    )
    flood, steps, first = aims(grpc, rest)
    assert (round(flood.value, 2), flood.is_met) == (1.3, True)
    assert (steps.value, steps.is_met) == (2, False)
    assert (first.value, first.is_met) == (3, False)
