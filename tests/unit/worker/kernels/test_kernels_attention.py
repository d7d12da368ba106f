"""Our attention beside plain NumPy, and beside itself in other runs."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.attention_layer import LAYERS, AttentionLayer, Floats, tokens_of
from tests.support.kernels import EVERY_ISA
from tests.support.tiny_models import NEEDS_NATIVE
from worker.kernels.library import isas_here

pytestmark = NEEDS_NATIVE


@EVERY_ISA
@pytest.mark.parametrize("shape", LAYERS, ids=str)
def test_computes_what_plain_numpy_computes(shape: dict[str, Any], isa: str) -> None:
    layer, lengths = AttentionLayer(**shape, isa=isa), [1, 2, 15, 16, 17, 200]
    rows = [tokens_of(layer, length, length) for length in lengths]
    out = layer.run(
        np.concatenate(rows), [(slot, length, length) for slot, length in enumerate(lengths)]
    )
    for row, found in zip(rows, np.split(out, np.cumsum(lengths)[:-1]), strict=True):
        # A number in the middle between two may be kept as either.
        atol = {32: 2e-5, 16: 1e-3, 8: 1e-2}[layer.bits]
        np.testing.assert_allclose(found, layer.expected(row), atol=atol, rtol=2e-5)


@EVERY_ISA
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 1 << 32))
def test_no_cut_and_no_company_changes_a_bit(seed: int, isa: str) -> None:
    """Rows come in pieces of any size, several rows to a run, a row perhaps with two pieces in it."""
    rng = random.Random(seed)
    layer = AttentionLayer(**rng.choice(LAYERS), isa=isa)
    lengths = [rng.randint(1, 120) for _ in range(rng.randint(1, 4))]
    rows = [tokens_of(layer, length, seed) for seed, length in enumerate(lengths)]
    whole = [layer.run(row, [(5, len(row), len(row))]) for row in rows]
    done = [0] * len(rows)
    pieces: list[list[Floats]] = [[] for _ in rows]
    while any(at < len(row) for at, row in zip(done, rows, strict=True)):
        run: list[tuple[int, int, int]] = []
        for slot, row in enumerate(rows):
            for _ in range(rng.randint(0, 2)):
                count = min(rng.choice([1, 1, 2, 7, 16, 33, 90]), len(row) - done[slot])
                if count:
                    done[slot] += count
                    run.append((slot, count, done[slot]))
        if not run:
            continue
        tokens = np.concatenate([rows[slot][end - count : end] for slot, count, end in run])
        out = np.split(layer.run(tokens, run), np.cumsum([count for _, count, _ in run])[:-1])
        for (slot, _, _), found in zip(run, out, strict=True):
            pieces[slot].append(found)
    for expected, found in zip(whole, pieces, strict=True):
        assert np.concatenate(found).tobytes() == expected.tobytes()


@settings(deadline=None, max_examples=30)
@given(shape=st.sampled_from(LAYERS), length=st.integers(1, 200), seed=st.integers(0, 99))
def test_every_instruction_set_computes_the_same_bits(
    shape: dict[str, Any], length: int, seed: int
) -> None:
    """Answers, and keys and values that are kept: a prompt and a token behind it."""
    found = set()
    for isa in isas_here():
        layer = AttentionLayer(**shape, isa=isa)
        tokens = tokens_of(layer, length + 1, seed)
        outs = [
            layer.run(tokens[:-1], [(1, length, length)]),
            layer.run(tokens[-1:], [(1, 1, length + 1)]),
        ]
        kept = (array.tobytes() for array in (layer.keys, layer.values, *layer.scales))
        found.add((*(out.tobytes() for out in outs), *kept))
    assert len(found) == 1


@EVERY_ISA
def test_two_single_tokens_of_one_row_may_be_in_one_run(isa: str) -> None:
    """The second needs the key of the first, which another thread writes."""
    layer = AttentionLayer(**LAYERS[0], isa=isa)
    tokens = tokens_of(layer, 200, 1)
    whole = layer.run(tokens, [(0, 200, 200)])
    for end in range(2, 200, 2):
        pair = layer.run(tokens[end - 2 : end], [(0, 1, end - 1), (0, 1, end)])
        assert pair.tobytes() == whole[end - 2 : end].tobytes()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([(6, 3, 3)], "out of bounds"),
        ([(-1, 3, 3)], "out of bounds"),
        ([(0, 3, 2)], "out of bounds"),
        ([(0, 3, 257)], "out of bounds"),
        ([(0, 0, 1), (1, 3, 3)], "out of bounds"),
        ([(0, 2, 2)], "do not cover"),
    ],
)
def test_rows_out_of_bounds_are_an_error(rows: list[tuple[int, int, int]], words: str) -> None:
    layer = AttentionLayer(**LAYERS[0], isa=isas_here()[0])
    with pytest.raises(Exception, match=words):
        layer.run(tokens_of(layer, 3, 1), rows)
