"""The three figures of accuracy, against sums done by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from worker.conversion.accuracy import compare

IDS = [[0, 1, 2]]
REFERENCE = [np.array([[0, 2, 0], [0, 0, 4], [1, 0, 0]], np.float32)]


def test_a_model_is_as_good_as_itself() -> None:
    found = compare(IDS, REFERENCE, REFERENCE)
    assert (found.rms_error, found.top1_agreement, found.perplexity_ratio) == (0.0, 1.0, 1.0)
    assert found.num_tokens == 3


def test_the_figures_are_those_of_the_definitions() -> None:
    rounded = [REFERENCE[0] + np.array([[1, 0, 0], [0, 0, 0], [0, 2, 0]], np.float32)]
    found = compare(IDS, REFERENCE, rounded)
    values = REFERENCE[0].ravel().tolist()
    mean = sum(values) / 9
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / 9)
    assert found.rms_error == pytest.approx(math.sqrt((1 + 4) / 9) / deviation)
    assert found.top1_agreement == pytest.approx(2 / 3)  # the last row's winner has changed
    first = math.log(math.exp(1) + math.exp(2) + 1) - 2  # token 1 after token 0
    second = math.log(1 + 1 + math.exp(4)) - 4  # token 2 after token 1
    usual = math.log(1 + math.exp(2) + 1) - 2
    assert found.perplexity == pytest.approx(math.exp((first + second) / 2))
    assert found.perplexity_ratio == pytest.approx(math.exp((first - usual) / 2))


def test_texts_of_different_lengths_count_by_their_tokens() -> None:
    ids = [[0, 1, 2], [2, 1]]
    logits = [REFERENCE[0], REFERENCE[0][:2]]
    worse = [REFERENCE[0], REFERENCE[0][:2][:, ::-1].copy()]
    found = compare(ids, logits, worse)
    assert found.num_tokens == 5
    assert found.top1_agreement == pytest.approx(4 / 5)


def test_large_logits_do_not_overflow() -> None:
    large = [np.array([[1e4, 0, 0], [0, 1e4, 0], [0, 0, 1e4]], np.float32)]
    assert compare([[0, 0, 1]], large, large).perplexity == pytest.approx(1.0)
