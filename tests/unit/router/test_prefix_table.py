"""What was sent where, and how it is forgotten."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.policy.prefix_table import ENTRY_BYTES, HOME_BYTES, CacheNews, PrefixTable

W1, W2, W3 = ("w1", "1"), ("w2", "1"), ("w3", "1")


def make_table(entries_max: int = 100, ttl_s: float = 60.0, told_max: int = 1000) -> PrefixTable:
    return PrefixTable(
        bytes_max=entries_max * (ENTRY_BYTES + HOME_BYTES), ttl_s=ttl_s, told_max=told_max
    )


def test_the_longest_common_beginning_counts_for_each_worker() -> None:
    table = make_table()
    table.record([1, 2, 3], W1, 0.0, is_whole=True)
    table.record([1, 9], W2, 0.0, is_whole=True)
    assert dict(table.match([1, 2, 4], 1.0).counts) == {W1: 2, W2: 1}
    assert not table.match([7], 1.0).counts


def test_going_on_with_a_prompt_is_told_from_sharing_a_beginning() -> None:
    table = make_table()
    table.record([1, 2], W1, 0.0, is_whole=True)
    assert table.match([1, 2, 3], 0.0).is_continuation
    assert not table.match([1, 5], 0.0).is_continuation
    table.record([6, 7], W1, 0.0, is_whole=False)
    assert not table.match([6, 7, 8], 0.0).is_continuation, "that prompt was longer than its hashes"


def test_what_is_not_used_for_long_is_not_believed() -> None:
    table = make_table(ttl_s=60)
    table.record([1], W1, 0.0, is_whole=True)
    table.record([1], W2, 50.0, is_whole=True)
    assert set(table.match([1], 59.0).counts) == {W1, W2}
    assert set(table.match([1], 61.0).counts) == {W2}


def test_entries_of_a_lost_incarnation_die_and_the_next_one_begins_with_nothing() -> None:
    table = make_table()
    table.record([1], W1, 0.0, is_whole=True)
    table.record([1], W2, 0.0, is_whole=True)
    table.retain({W2, ("w1", "2")})
    assert set(table.match([1], 0.0).counts) == {W2}


def test_the_oldest_prompt_goes_first_and_of_one_the_longest_beginning() -> None:
    table = make_table(entries_max=4)
    table.record([1, 2, 3], W1, 0.0, is_whole=True)
    table.record([4], W1, 0.0, is_whole=True)
    table.record([1, 2], W1, 0.0, is_whole=True)
    table.record([5], W1, 0.0, is_whole=True)
    assert table.match([1, 2, 3], 0.0).counts == {W1: 2}
    assert len(table) == 4


def test_what_a_worker_says_counts_until_it_says_otherwise() -> None:
    table = make_table(ttl_s=60)
    table.record([1, 2], W1, 0.0, is_whole=True)
    table.hear(W2, CacheNews(held=[1, 2]), 0.0)
    assert dict(table.match([1, 2], 1e6).counts) == {W2: 2}, "only a guess grows old"
    table.hear(W2, CacheNews(gone=[2]), 1.0)
    assert dict(table.match([1, 2], 1.0).counts) == {W1: 2, W2: 1}
    table.hear(W1, CacheNews(gone=[1, 2, 99]), 1.0)
    assert dict(table.match([1, 2], 1.0).counts) == {W2: 1}, "it knows better than who guessed"


def test_one_that_is_used_again_is_believed_as_before() -> None:
    table = make_table(ttl_s=60)
    table.hear(W1, CacheNews(held=[1]), 0.0)
    table.record([1], W1, 1.0, is_whole=True)
    assert dict(table.match([1], 1e6).counts) == {W1: 1}


def test_who_says_everything_anew_has_nothing_else() -> None:
    table = make_table()
    table.record([1], W1, 0.0, is_whole=True)
    table.hear(W1, CacheNews(held=[2]), 0.0)
    table.hear(W1, CacheNews(is_whole=True, held=[3]), 1.0)
    assert [dict(table.match([h], 1.0).counts) for h in (1, 2, 3)] == [{}, {}, {W1: 1}]
    table.record([1], W1, 2.0, is_whole=True)
    assert dict(table.match([1], 2.0).counts) == {W1: 1}, "what is sent afterwards counts again"


def test_a_worker_that_talks_nonsense_takes_only_its_own_places() -> None:
    table = make_table(entries_max=100, told_max=20)
    for number in range(50):
        table.record([number], W1, 0.0, is_whole=True)
    for tale in range(100):
        lies = [1000 * tale + n for n in range(5000)]
        table.hear(W2, CacheNews(is_whole=tale % 3 == 0, held=lies, gone=range(40, 80)), 1.0)
    assert all(table.match([number], 1.0).counts == {W1: 1} for number in range(50))


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 30), min_size=1, max_size=8),
            st.sampled_from([W1, W2, W3]),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_it_never_claims_what_was_not_sent_and_never_holds_more_than_it_may(
    sent: list[tuple[list[int], tuple[str, str], bool]],
) -> None:
    table = make_table(entries_max=10)
    for hashes, home, is_whole in sent:
        table.record(hashes, home, 0.0, is_whole=is_whole)
        assert len(table) <= 10
    for hashes, _, _ in sent:
        for home, count in table.match(hashes, 0.0).counts.items():
            assert any(h == home and hashes[count - 1] in other for other, h, _ in sent)


hashes = st.lists(st.integers(0, 12), max_size=6)
homes = st.sampled_from([W1, W2, W3])


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("sent"), homes, hashes, st.booleans()),
            st.tuples(st.just("held"), homes, hashes, st.booleans()),
            st.tuples(st.just("gone"), homes, hashes, st.booleans()),
            st.tuples(st.just("left"), homes, st.just([]), st.just(True)),
        ),
        max_size=60,
    ),
    st.integers(0, 5),
)
def test_what_is_believed_of_a_worker_was_sent_there_or_told_and_not_taken_back(
    steps: list[tuple[str, tuple[str, str], list[int], bool]], told_max: int
) -> None:
    table = make_table(entries_max=10, told_max=told_max)
    guessed: dict[tuple[str, str], set[int]] = {W1: set(), W2: set(), W3: set()}
    told: dict[tuple[str, str], set[int]] = {W1: set(), W2: set(), W3: set()}
    for now, (what, home, keys, is_whole) in enumerate(steps):
        if what == "sent":
            table.record(keys, home, float(now), is_whole=is_whole)
            guessed[home] |= set(keys)
        elif what == "held":
            if is_whole:
                guessed[home], told[home] = set(), set()
            table.hear(home, CacheNews(is_whole=is_whole, held=keys), float(now))
            told[home] |= set(keys)
        elif what == "gone":
            table.hear(home, CacheNews(gone=keys), float(now))
            guessed[home] -= set(keys)
            told[home] -= set(keys)
        else:
            table.retain({W1, W2, W3} - {home})
            guessed[home], told[home] = set(), set()
        assert len(table) <= 10
        for key in range(13):
            counts = table.match([key], float(now)).counts
            assert all(key in guessed[one] | told[one] for one in counts)
        for one in (W1, W2, W3):
            # Long after all guesses have grown old.
            believed = [key for key in range(13) if one in table.match([key], 1e9).counts]
            assert len(believed) <= told_max


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("homes_max", [1, 3, 12])
def test_bytes_are_bounded_by_what_the_setting_says(homes_max: int, told: bool) -> None:
    """Measured, with hashes as large as they are."""
    bytes_max = 4 << 20
    homes = [(f"w{n}", "1") for n in range(20)]
    tracemalloc.start()
    table = PrefixTable(bytes_max=bytes_max, ttl_s=1e9)
    for number in range(20_000):
        for home in homes[: 1 + number % homes_max]:
            key = (number * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
            if told:
                table.hear(home, CacheNews(held=[key]), float(number))
            else:
                table.record([key], home, float(number), is_whole=True)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.9 * bytes_max < table.num_bytes <= bytes_max
    assert used <= bytes_max
