"""Parts of a page between markers, tables in two forms, rows with a bound."""

from __future__ import annotations

import pytest

from loadtest.latency.row import Row
from loadtest.page import with_part
from loadtest.table import Table
from tests.support.processes import ROOT

PAGE = """# Title
by hand
<!-- begin one: written by `make one` -->
old
<!-- end one -->
between
<!-- begin one-more -->
<!-- end one-more -->
end
"""


def test_only_the_part_changes() -> None:
    page = with_part(PAGE, "one", "new\nlines")
    assert page == PAGE.replace("\nold\n", "\n\nnew\nlines\n\n")
    assert with_part(page, "one", "new\nlines") == page
    assert "\\1 {x}" in with_part(PAGE, "one-more", "\\1 {x}")


@pytest.mark.parametrize("name", ["two", "on"])
def test_a_part_that_is_not_there_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match=f"0 parts are called '{name}'"):
        with_part(PAGE, name, "x")


def test_two_parts_of_one_name_are_an_error() -> None:
    with pytest.raises(ValueError, match="2 parts"):
        with_part(PAGE + PAGE, "one", "x")


@pytest.mark.parametrize(
    "name", ["engine", "peers-135m", "peers-1b-int4", "peers-1b-int8", "latency"]
)
def test_the_page_has_the_parts_that_the_benches_write(name: str) -> None:
    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    assert "new text" in with_part(page, name, "new text")


def test_a_table_as_markdown() -> None:
    table = Table(title="T", head=("a", "b"), rows=[["x", "**1**"]])
    assert table.markdown() == "**T**\n\n| a | b |\n|---|---:|\n| x | **1** |"


@pytest.mark.parametrize(
    ("bounds", "met"),
    [
        ({}, None),
        ({"at_most": 2.0}, True),
        ({"at_most": 1.0}, False),
        ({"at_least": 1.5}, True),
        ({"at_least": 1.6}, False),
    ],
)
def test_a_row_says_whether_its_aim_is_met(bounds: dict[str, float], met: bool | None) -> None:
    row = Row(what="w", value=1.5, unit="ms", **bounds)
    assert row.is_met is met
    assert row.cells()[3] == {True: "yes", False: "**no**", None: ""}[met]
