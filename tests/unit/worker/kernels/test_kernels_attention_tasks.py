"""How attention is cut into tasks: all of it once, and the same bits as without a cut."""

from __future__ import annotations

import ctypes
import itertools
from collections import Counter
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.attention_layer import LAYERS, AttentionLayer, tokens_of
from tests.support.kernels import EVERY_ISA
from tests.support.tiny_models import NEEDS_NATIVE
from worker.kernels.library import find_library, isas_here

pytestmark = NEEDS_NATIVE
WHOLE, SCORE, SOFTEN, WEIGH = range(4)
ROOM: Final = 20_000


class Task(ctypes.Structure):
    """As in worker/kernels/src/attention.h."""

    _fields_ = [
        *(
            (name, ctypes.c_int32)
            for name in ("row", "kv_head", "first", "count", "step", "start", "to")
        ),
        ("scores", ctypes.c_void_p),
    ]

    @property
    def queries(self) -> tuple[int, int, int, int]:
        return self.row, self.kv_head, self.first, self.count


def tasks_of(rows: list[tuple[int, int]], step: int, **shape: int) -> list[Task]:
    """Rows are (tokens of this call, length after it)."""
    starts = np.cumsum([0, *(count for count, _ in rows)]).astype(np.int32)
    lengths = np.array([length for _, length in rows], np.int32)
    tasks = (Task * ROOM)()
    cut = ctypes.CDLL(str(find_library())).lepton_kernels_attention_tasks
    cut.restype = ctypes.c_int64
    sizes = (shape[name] for name in ("heads", "kv_heads", "size", "window"))
    count = cut(
        *(starts.ctypes.data_as(ctypes.c_void_p), lengths.ctypes.data_as(ctypes.c_void_p)),
        *(ctypes.c_int64(value) for value in (len(rows), *sizes)),
        *(ctypes.c_int(step), tasks, ctypes.c_int64(ROOM)),
    )
    assert count >= 0
    return tasks[:count]


@settings(deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(1, 40), st.sampled_from([0, 0, 7, 900, 5000])),
        min_size=1,
        max_size=12,
    ),
    heads=st.sampled_from([(9, 3), (8, 8), (14, 2), (4, 1)]),
    size=st.sampled_from([16, 64, 80]),
    window=st.sampled_from([-1, 512]),
)
def test_every_head_of_every_token_is_computed_once(
    rows: list[tuple[int, int]], heads: tuple[int, int], size: int, window: int
) -> None:
    shape = {"heads": heads[0], "kv_heads": heads[1], "size": size, "window": window}
    rows = [(count, count + past) for count, past in rows]
    begin, soften, weigh = (tasks_of(rows, step, **shape) for step in (SCORE, SOFTEN, WEIGH))
    whole = [task for task in begin if task.step == WHOLE]
    shared = {task.queries: task for task in begin if task.step == SCORE}
    done = Counter(
        (row, head, token)
        for row, head, first, count in [*(task.queries for task in whole), *shared]
        for token in range(first, first + count)
    )
    assert done == Counter(
        (row, head, token)
        for row, (count, _) in enumerate(rows)
        for head in range(heads[1])
        for token in range(count)
    )
    group = heads[0] // heads[1]
    for queries in shared:
        row, _, first, count = queries
        past = rows[row][1] - rows[row][0]
        seen_from = max(0, past + first + 1 - window) if window > 0 else 0
        seen_to = past + first + count
        assert joined(begin, queries) == (seen_from // 16 * 16, -(-seen_to // 16) * 16)
        assert joined(soften, queries) == (0, count * group)
        assert joined(weigh, queries) == (0, size)
    assert {task.queries for task in (*soften, *weigh)} == set(shared)


def test_a_chunk_of_a_long_prompt_is_shared_out_beside_rows_that_decode() -> None:
    shape = {"heads": 9, "kv_heads": 3, "size": 64, "window": -1}
    rows = [*[(1, 200)] * 8, (4, 4000)]
    first, *_ = tasks = tasks_of(rows, SCORE, **shape)
    assert first.row == 8, "what takes longest is begun first"
    assert {task.row for task in tasks if task.step == SCORE} == {8}
    assert len(tasks_of(rows, WEIGH, **shape)) >= 6


@pytest.mark.parametrize(
    "rows", [[(1, 200)] * 8, [(1, 4000)] * 8, [(1, 300)], [(512, 1024)]], ids=str
)
def test_what_is_many_or_short_is_not_shared_out(rows: list[tuple[int, int]]) -> None:
    """Waiting for each other between steps would take longer."""
    shape = {"heads": 9, "kv_heads": 3, "size": 64, "window": -1}
    assert tasks_of(rows, SOFTEN, **shape) == []


@EVERY_ISA
@pytest.mark.parametrize("shape", LAYERS, ids=str)
def test_tokens_that_are_shared_out_have_the_bits_of_the_whole_prompt(
    shape: dict[str, Any], isa: str
) -> None:
    length = 2700
    layer = AttentionLayer(**shape, isa=isa, capacity=3072, slots=3)
    tokens = tokens_of(layer, length, 1)
    whole = layer.run(tokens, [(1, length, length)])
    beside = tokens_of(layer, 30, 2)
    alone = layer.run(beside, [(0, 30, 30)])
    for count in (1, 3, 4, 12):
        for end in (length, 2049):
            chunk = tokens[end - count : end]
            assert (
                layer.run(chunk, [(1, count, end)]).tobytes() == whole[end - count : end].tobytes()
            )
            out = layer.run(np.concatenate([beside[-1:], chunk]), [(0, 1, 30), (1, count, end)])
            assert out.tobytes() == alone[-1:].tobytes() + whole[end - count : end].tobytes()


def test_the_number_of_threads_changes_no_bit() -> None:
    outs = set()
    for threads in (1, 2, 5):
        layer = AttentionLayer(
            **LAYERS[5], isa=isas_here()[0], capacity=3072, slots=2, threads=threads
        )
        tokens = tokens_of(layer, 2700, 1)
        whole = layer.run(tokens, [(1, 2700, 2700)])
        outs.add(whole.tobytes() + layer.run(tokens[-4:], [(1, 4, 2700)]).tobytes())
    assert len(outs) == 1


def joined(tasks: list[Task], queries: tuple[int, int, int, int]) -> tuple[int, int]:
    """What the parts of these queries are together; no gap, nothing twice."""
    parts = sorted((task.start, task.to) for task in tasks if task.step and task.queries == queries)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(parts))
    return parts[0][0], parts[-1][1]
