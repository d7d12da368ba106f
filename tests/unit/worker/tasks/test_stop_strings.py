from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from worker.tasks.stop_strings import StopMatch, StopStrings

letters = st.text(alphabet="abé", min_size=0, max_size=40)
needles = st.lists(st.text(alphabet="abé", min_size=1, max_size=6), max_size=4)


def naive(text: str, strings: list[str]) -> tuple[str, int] | None:
    """The first match to complete in the whole text; of several at one character the one that began first."""
    hits = [
        (end, start, text[start:end])
        for start in range(len(text))
        for end in range(start + 1, len(text) + 1)
        if text[start:end] in strings
    ]
    if not hits:
        return None
    _, start, string = min(hits)
    return string, start


def pieces(text: str, cuts: list[int]) -> list[str]:
    borders = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(borders)]


@given(text=letters, strings=needles, cuts=st.lists(st.integers(0, 40), max_size=12))
def test_finds_what_a_search_of_the_whole_text_finds(
    text: str, strings: list[str], cuts: list[int]
) -> None:
    """However the text is cut, overlapping candidates included."""
    matcher = StopStrings(strings).new_matcher()
    found: StopMatch | None = None
    for piece in pieces(text, cuts):
        found = matcher.push(piece)
        if found:
            break
    assert ((found.string, found.start) if found else None) == naive(text, strings)


@given(text=letters, strings=needles, cuts=st.lists(st.integers(0, 40), max_size=12))
def test_free_text_is_never_part_of_a_later_match_and_held_text_could_be(
    text: str, strings: list[str], cuts: list[int]
) -> None:
    matcher = StopStrings(strings).new_matcher()
    seen, free = "", 0
    for piece in pieces(text, cuts):
        found = matcher.push(piece)
        if found:
            assert found.start >= free
            return
        seen += piece
        assert matcher.num_free >= free
        free = matcher.num_free
        held = seen[free:]
        assert not held or any(s.startswith(held) and s != held for s in strings)


@given(before=letters, after=letters, strings=needles)
def test_matches_that_end_before_it_is_armed_do_not_count(
    before: str, after: str, strings: list[str]
) -> None:
    matcher = StopStrings(strings).new_matcher()
    assert matcher.push(before, armed=False) is None
    found = matcher.push(after)
    text = before + after
    ends = [
        (end, start)
        for start in range(len(text))
        for end in range(max(start, len(before)) + 1, len(text) + 1)
        if text[start:end] in strings
    ]
    assert ((found.start + len(found.string), found.start) if found else None) == (
        min(ends) if ends else None
    )


def test_the_example_of_the_module() -> None:
    matcher = StopStrings(["</s>"]).new_matcher()
    assert matcher.push("Hi <") is None
    assert matcher.num_free == 3
    assert matcher.push("/s") is None
    assert matcher.num_free == 3
    assert matcher.push(" no") is None
    assert matcher.num_free == 9
    again = StopStrings(["</s>"]).new_matcher()
    assert again.push("Hi <") is None
    assert again.push("/s>") == StopMatch(string="</s>", start=3)


def test_without_stop_strings_all_text_is_free() -> None:
    matcher = StopStrings([]).new_matcher()
    assert matcher.push("anything") is None
    assert matcher.num_free == 8
