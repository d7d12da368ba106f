"""Text in pieces, broken between words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.wrap import WordWrap


def _wrap(pieces: list[str], *, width: int, indent: str = "") -> str:
    wrap = WordWrap(width=width, indent=indent)
    return "".join(wrap.push(piece) for piece in pieces) + wrap.end()


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        (["one two"], ["one two"]),
        (["on", "e tw", "o three"], ["one two", "three"]),
        (["one  two"], ["one  two"]),
        (["one\n\n two"], ["one", "", " two"]),
        (["abcdefghijklmnop q"], ["abcdefghijklmnop", "q"]),
        ([""], [""]),
    ],
)
def test_lines_break_between_words(pieces: list[str], lines: list[str]) -> None:
    assert _wrap(pieces, width=8).split("\n") == lines


def test_every_line_is_indented() -> None:
    shown = _wrap(["a b\n", "c ddddd e"], width=8, indent="  ")
    assert shown.split("\n") == ["  a b", "  c", "  ddddd", "  e"]


@given(st.lists(st.text("ab \n", max_size=12), max_size=12), st.integers(1, 20))
def test_words_are_kept_and_fit(pieces: list[str], width: int) -> None:
    text = "".join(pieces)
    shown = _wrap(pieces, width=width)
    assert shown.split() == text.split() or max(map(len, text.split())) >= 32
    longest = max(map(len, text.split()), default=0)
    spaces = len(text) - len(text.replace(" ", ""))
    assert all(len(line) <= max(width, longest + spaces) for line in shown.split("\n"))


@given(st.text("ab \n", max_size=40), st.integers(1, 20), st.integers(1, 5))
def test_the_pieces_do_not_matter(text: str, width: int, size: int) -> None:
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert _wrap(pieces, width=width) == _wrap([text], width=width)
