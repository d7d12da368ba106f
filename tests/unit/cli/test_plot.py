"""Charts: well-formed, whole, and with axes that people can read."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.plot.bars import Bars, bar_chart
from cli.plot.frame import document
from cli.plot.lines import Line, line_chart
from cli.plot.scale import label_of, linear, logarithmic, round_steps

NUMBERS = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)  # noqa: S314 - we wrote it


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=30))
def test_any_points_make_a_chart_inside_its_frame(points: list[tuple[float, float]]) -> None:
    svg = line_chart(
        [Line(name="<a> & b", points=points), Line(name="c", points=[])],
        title="x < y",
        x_label="x",
        y_label="y",
    )
    root = parsed(document(svg))
    width, height = (float(part) for part in root.attrib["viewBox"].split()[2:])
    circles = [one for one in root.iter() if one.tag.endswith("circle")]
    assert all(0 <= float(one.attrib["cx"]) <= width for one in circles)
    assert all(0 <= float(one.attrib["cy"]) <= height for one in circles)
    assert "nan" not in svg.lower()


@given(NUMBERS, st.floats(1e-6, 1e6))
def test_steps_are_round_and_hold_both_ends(low: float, size: float) -> None:
    ticks = round_steps(low, low + size)
    step = (ticks[-1] - ticks[0]) / (len(ticks) - 1)
    slack = 1e-6 * max(abs(low), size)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + size - slack
    assert 2 <= len(ticks) <= 12
    assert step / 10 ** math.floor(math.log10(step) + 1e-9) == pytest.approx(
        min((1, 2, 5, 10), key=lambda f: abs(f - step / 10 ** math.floor(math.log10(step) + 1e-9))),
        rel=1e-3,
    )


def test_places_along_an_axis() -> None:
    axis = linear([0, 50, 100], 10, 110)
    assert (axis.at(0), axis.at(50), axis.at(100), axis.at(1000)) == (10, 60, 110, 110)
    doubled = logarithmic([1, 2, 4, 8], 0, 300, (1, 2, 4, 8))
    assert [round(doubled.at(value)) for value in (1, 2, 4, 8)] == [0, 100, 200, 300]


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (20.0, "20"), (1500.0, "1,500"), (2e6, "2M")]
)
def test_numbers_at_an_axis(value: float, text: str) -> None:
    assert label_of(value) == text


def test_bars_with_a_mark_and_a_gap() -> None:
    svg = bar_chart(
        ["decode 1", "decode 4"],
        [Bars(name="a", values=[1.2, None], spread=[(1.1, 1.3), None]), Bars(name="b", values=[0.5, 2])],
        title="t",
        x_label="x",
        y_label="y",
        mark=1.0,
    )  # fmt: skip
    titles = [one.text for one in parsed(svg).iter() if one.tag.endswith("title")]
    assert titles == ["decode 1, a: 1.2", "decode 1, b: 0.5", "decode 4, b: 2"]
    assert "stroke-dasharray" in svg


def test_a_long_legend_takes_several_lines() -> None:
    lines = [Line(name=f"a rather long name {n}", points=[(0, 1), (1, 2)]) for n in range(9)]
    short = parsed(line_chart(lines[:2], title="t", x_label="x", y_label="y"))
    long = parsed(line_chart(lines, title="t", x_label="x", y_label="y"))

    def height(root: ElementTree.Element) -> float:
        return float(root.attrib["viewBox"].split()[3])

    assert height(long) > height(short)


def test_a_file_brings_its_colours() -> None:
    svg = line_chart([Line(name="a", points=[(0, 1)])], title="t", x_label="x", y_label="y")
    used = set(re.findall(r"var\(--(\w+)\)", document(svg)))
    defined = set(re.findall(r"--(\w+):", document(svg)))
    assert used <= defined
