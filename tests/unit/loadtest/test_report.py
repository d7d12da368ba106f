"""Figures → who competes with whom, ratios, tables, plots."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from loadtest.engines.exactness import compete_with, logit_error
from loadtest.engines.figures import page_part
from loadtest.engines.report import memory_table, peer_tables
from loadtest.engines.result import Figure, Measure, Result

DECODE, PREFILL = Measure("decode", 2), Measure("prefill", 16)
ERRORS = {"ours": 0.4, "a": 0.5, "b": 0.3, "exact": 0.03}


def result(errors: dict[str, float | None]) -> Result:
    """Two rounds; in the second the machine ran half as fast."""
    rates = {"ours": (120.0, 60.0), "a": (100.0, 30.0), "b": (60.0, 40.0), "exact": (240.0, 120.0)}
    figures = [
        Figure(label=label, measure=measure, round=number, tokens_per_s=rate, details={})
        for measure in (DECODE, PREFILL)
        for number in (1, 2)
        for label, pair in rates.items()
        for rate in (pair[number - 1],)
    ]
    return Result(
        title="Test",
        ours=("ours",),
        others=("a", "b", "exact"),
        facts={
            label: {"name": label, "version": "1", "rss": 3 << 20, "logit_error": errors.get(label)}
            for label in rates
        },
        figures=tuple(figures),
        plan={"rounds": 2, "threads": 1, "prompt_tokens": 8, "tokens": 4},
        machine={"CPU": "a CPU"},
    )


def test_a_ratio_is_taken_within_one_round_and_to_the_best_that_competes() -> None:
    found = result(dict(ERRORS))
    assert found.ratios(DECODE, "ours", ["a", "b"]) == [1.2, 1.5]
    assert found.competitors("ours") == ("a", "b")
    standing = found.standing("ours", DECODE)
    assert standing is not None
    assert (standing.ratio, standing.low, standing.high) == pytest.approx((1.35, 1.2, 1.5))
    assert standing.best == "a"


def test_similar_means_neither_more_than_twice_the_other() -> None:
    errors = {"ours": 0.4, "above": 0.8, "beyond": 0.81, "below": 0.2, "under": 0.19, "none": None}
    others = ("above", "beyond", "below", "under", "none")
    assert compete_with("ours", others, errors) == ("above", "below")
    assert compete_with("none", ("ours", "above"), errors) == ()


def test_without_any_error_everybody_competes() -> None:
    assert result({}).competitors("ours") == ("a", "b", "exact")
    assert len(peer_tables(result({}))) == 2


def test_rows_of_another_exactness_are_shown_apart() -> None:
    rates, standings, apart = peer_tables(result(dict(ERRORS)))
    assert [row[0] for row in rates.rows] == ["ours", "a", "b"]
    assert rates.rows[0] == ["ours", "0.400", "**90**", "**90**"]
    assert standings.rows[0] == ["decode 2", "a", "1.35 (1.20–1.50)"]
    assert [row[:3] for row in apart.rows] == [["exact", "0.030", "180"]]


def test_an_error_is_a_share_of_the_spread_of_the_logits() -> None:
    reference = np.array([[1.0, -1.0], [1.0, -1.0]], np.float32)
    assert logit_error(reference, reference) == 0.0
    assert logit_error(reference + 0.5, reference) == pytest.approx(0.5)
    padded = np.concatenate([reference, np.full((2, 3), 9.0, np.float32)], axis=1)
    assert logit_error(padded, reference) == 0.0


def test_the_part_of_the_page_has_its_plots_beside_it(tmp_path: Path) -> None:
    data = tmp_path / "figures" / "peers.json"
    part = page_part(result(dict(ERRORS)), tmp_path / "page.md", data)
    assert "![peers-decode](figures/peers-decode.svg)" in part
    assert "CPU: a CPU" in part
    assert "1.35 (1.20–1.50)" in part
    for name in ("decode", "prefill", "ratios"):
        svg = (tmp_path / "figures" / f"peers-{name}.svg").read_text("utf-8")
        ElementTree.fromstring(svg)  # noqa: S314 - we wrote it


def test_results_come_back_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    result(dict(ERRORS)).write(file)
    assert Result.read(file) == result(dict(ERRORS))


def test_memory_says_what_is_known() -> None:
    table = memory_table(result({}))
    assert table.rows[0] == ["ours", "–", "–", "–", "3", "–"]
