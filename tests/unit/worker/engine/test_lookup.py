"""Drafts: what is looked up, how much of it is proposed, and what is believed of a runner's answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.engine import make_sequence
from worker.engine.answers import check_answer, num_accepted, verify
from worker.engine.config import EngineConfig
from worker.engine.decode_cost import Decoding
from worker.engine.drafter import Drafter
from worker.engine.ngrams import NgramIndex
from worker.engine.payoff import Payoff
from worker.engine.ports import Batch, CacheLayout, Draft, Sampled
from worker.engine.sequence import Sequence, StopRule
from worker.engine.speed import SpeedMeter

LAYOUT = CacheLayout(num_slots=4, capacity=5000, keeps_decoded=True, num_drafted=32)
ONE = Decoding(1)
PROMPT = (1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3)


def index_of(*token_ids: int, ngram: int = 3) -> NgramIndex:
    index = NgramIndex(ngram)
    index.extend(token_ids)
    return index


def test_what_came_after_the_same_tokens_is_proposed() -> None:
    assert index_of(*PROMPT).propose(4) == (4, 5, 6, 7)
    assert index_of(*PROMPT[:-1]).propose(4) == ()
    assert index_of(1, 2).propose(4) == ()


def test_the_latest_place_counts() -> None:
    assert index_of(1, 2, 3, 4, 0, 1, 2, 3, 5, 0, 1, 2, 3).propose(1) == (5,)


def test_a_place_that_was_right_is_read_on() -> None:
    """Although the tokens in front of the next one have been elsewhere since."""
    index = index_of(8, 7, 1, 2, 3, 4, 0, 1, 2, 3, 5, 0, 8, 7, 1)
    assert index.propose(2) == (2, 3)
    index.extend((2, 3))
    assert index.propose(2) == (4, 0)
    assert index_of(8, 7, 1, 2, 3, 4, 0, 1, 2, 3, 5, 0, 8, 7, 1, 2, 3).propose(2) == (5, 0)


def test_what_repeats_itself_is_proposed_beyond_its_end() -> None:
    assert index_of(5, 6, 5, 6, 5).propose(6) == (6, 5, 6, 5, 6, 5)


@given(
    parts=st.lists(st.lists(st.integers(0, 2), max_size=9), max_size=8),
    ngram=st.integers(1, 4),
    most=st.integers(1, 9),
)
def test_the_index_finds_what_a_search_finds(parts: list[list[int]], ngram: int, most: int) -> None:
    """In whatever pieces the tokens come."""
    index = NgramIndex(ngram)
    for part in parts:
        index.extend(part)
    ids = [token_id for part in parts for token_id in part]
    assert len(index) == len(ids)
    places = [
        at for at in range(ngram, len(ids)) if ids[at - ngram : at] == ids[len(ids) - ngram :]
    ]
    expected: list[int] = []
    for at in range(most if places else 0):
        expected.append((ids + expected)[places[-1] + at])
    assert index.propose(most) == tuple(expected)


# --- how many ---


def sizes(payoff: Payoff, *, price: float, stands: bool, tokens: int = 400) -> list[int]:
    """What is proposed for each of `tokens` tokens when drafts stand always, or never."""
    found = []
    for at in range(tokens):
        found.append(payoff.size(at, price=price, most=8))
        if found[-1]:
            payoff.learn(num_proposed=found[-1], num_accepted=found[-1] if stands else 0)
    return found


def test_drafts_that_stand_become_as_long_as_they_may() -> None:
    assert sizes(Payoff(), price=0.35, stands=True, tokens=12)[-1] == 8


def test_drafts_that_never_stand_cost_next_to_nothing() -> None:
    found = sizes(Payoff(), price=0.35, stands=False)
    assert sum(found[:20]) > 0
    assert sum(found[200:]) <= 8
    assert sum(map(bool, found)) < 24


def test_a_text_that_begins_to_repeat_is_found() -> None:
    payoff = Payoff()
    sizes(payoff, price=0.35, stands=False, tokens=600)
    found = [payoff.size(at, price=0.35, most=8) for at in range(600, 900)]
    assert any(found)
    payoff.learn(num_proposed=2, num_accepted=2)
    assert sizes(payoff, price=0.35, stands=True, tokens=900)[-1] == 8


def test_the_dearer_the_shorter() -> None:
    prices = (0.02, 0.2, 0.5, 0.6, 0.9)
    assert [Payoff().size(0, price=price, most=8) for price in prices] == [8, 3, 1, 1, 1]
    payoff = Payoff()
    payoff.learn(num_proposed=1, num_accepted=0)
    assert payoff.size(1, price=0.6, most=8) == 0


def test_a_price_that_was_a_mistake_is_measured_again() -> None:
    """However dear they seem to be, some are tried."""
    assert sum(sizes(Payoff(), price=50.0, stands=True, tokens=2000)) >= 5


def observed(*steps: tuple[float, int]) -> SpeedMeter:
    """Steps of one row: seconds and tokens of drafts."""
    meter = SpeedMeter()
    for duration_s, num_drafted in steps:
        meter.observe(
            duration_s=duration_s, num_prefill_tokens=0, decoding=ONE, num_starts=0, num_drafted=num_drafted
        )  # fmt: skip
    return meter


def test_the_price_is_what_a_step_takes_beyond_one_without() -> None:
    meter = observed((0.010, 0), (0.016, 3))
    assert meter.draft_price(ONE) == pytest.approx(0.2)
    assert meter.decode_s(ONE) == 0.010
    assert meter.step_s(num_prefill_tokens=0, decoding=ONE, num_drafted=5) == pytest.approx(0.02)
    assert meter.drafts_within(0.0201, ONE) == 5
    assert meter.drafts_within(0.001, ONE) == 0
    assert observed().drafts_within(1.0, ONE) is None


@pytest.mark.parametrize(
    ("steps", "price"),
    [((), 0.3), (((0.010, 0),), 0.3), (((0.010, 4),), 0.3), (((0.010, 0), (0.009, 4)), 0.02),
     (((0.010, 0), (9.0, 4)), 1.0)],
    ids=["nothing known", "no draft yet", "no step without", "no dearer", "held up by something else"],
)  # fmt: skip
def test_a_price_is_always_a_sensible_one(
    steps: tuple[tuple[float, int], ...], price: float
) -> None:
    assert observed(*steps).draft_price(ONE) == pytest.approx(price)


# --- who gets one ---


def decoding(
    prompt_ids: tuple[int, ...] = PROMPT, *generated: int, stop: StopRule | None = None
) -> Sequence:
    sequence = make_sequence(prompt_ids=prompt_ids, stop=stop or StopRule(max_tokens=99))
    sequence.generated_ids += generated
    return sequence


def drafts(*rows: Sequence, layout: CacheLayout = LAYOUT, meter: SpeedMeter | None = None,
           config: EngineConfig | None = None) -> list[tuple[int, ...]]:  # fmt: skip
    drafter = Drafter(config or EngineConfig(), layout)
    return [draft.token_ids for draft in drafter.propose(rows, meter or SpeedMeter())]


def test_rows_that_repeat_get_a_draft() -> None:
    assert drafts(decoding(), decoding((1, 2)), decoding(PROMPT[:9], 4, 5, 6)) == [(4,), (7,)]
    assert drafts(decoding((*PROMPT, 4), 5)) == [(6, 7)]


def test_none_are_made_beside_many_or_where_nobody_verifies_them() -> None:
    few = [decoding() for _ in range(4)]
    assert len(drafts(*few)) == 4
    assert drafts(*few, decoding((1, 2))) == []
    assert drafts() == []
    assert drafts(*few, layout=CacheLayout(num_slots=4, capacity=99, keeps_decoded=True)) == []
    for config in (EngineConfig(lookup_tokens_max=0), EngineConfig(lookup_streams_max=0)):
        assert drafts(decoding(), config=config) == []


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (StopRule(max_tokens=99), [(4, 5)]),
        (StopRule(max_tokens=2), [(4,)]),
        (StopRule(max_tokens=1), []),
        (StopRule(max_tokens=99, eos_ids=frozenset({5})), [(4,)]),
        (StopRule(max_tokens=99, stop_ids=frozenset({4}), min_tokens=50), []),
    ],
)
def test_no_draft_goes_to_the_end_or_over_it(
    stop: StopRule, expected: list[tuple[int, ...]]
) -> None:
    assert drafts(decoding(stop=stop)) == expected


def test_a_step_stays_within_its_bounds() -> None:
    one = CacheLayout(num_slots=4, capacity=99, keeps_decoded=True, num_drafted=1)
    assert drafts(decoding(), decoding(), layout=one) == [(4,)]
    dear = observed((0.0625, 0), (0.125, 1))
    assert drafts(decoding(), decoding(), meter=dear) == [(4,)], "twice as long as without"


def test_every_now_and_then_a_step_has_none() -> None:
    """Or nobody knew what they cost."""
    drafter, row = Drafter(EngineConfig(), LAYOUT), decoding()
    had = []
    for _ in range(33):
        drafts = drafter.propose((row,), SpeedMeter())
        had.append(bool(drafts))
        for draft in drafts:
            drafter.learn(draft, len(draft.token_ids))
    assert [at for at, has in enumerate(had) if not has] == [15, 31]


def test_a_long_prompt_is_taken_in_step_by_step() -> None:
    drafter, meter = Drafter(EngineConfig(), LAYOUT), SpeedMeter()
    row = decoding((*range(3000), 7, 8, 9))
    assert drafter.propose((row,), meter) == ()
    assert [draft.token_ids for draft in drafter.propose((row,), meter)] == [(10, 11)]
    drafter.forget(row)
    assert repr(drafter) == "<Drafter of 0 sequences>"


def test_drafts_need_exact_arithmetic() -> None:
    with pytest.raises(ValueError, match="to the bit"):
        CacheLayout(num_slots=1, capacity=1, num_drafted=1)


# --- what is believed ---


def test_draws_go_on_as_long_as_they_are_what_was_proposed() -> None:
    sequence = decoding()
    seen = []

    def draw(at: int) -> Sampled:
        seen.append((at, list(sequence.generated_ids)))
        return Sampled(sequence=sequence, token_id=(4, 5, 9, 9)[at])

    draft = Draft(sequence, (4, 5, 6))
    answer = verify(draft, draw)
    assert [result.token_id for result in answer] == [4, 5, 9]
    assert seen == [(0, []), (1, [4]), (2, [4, 5])]
    assert sequence.generated_ids == []
    assert num_accepted(draft, answer) == 2
    assert len(verify(Draft(sequence, (4, 5)), draw)) == 3


def test_a_draw_that_fails_leaves_the_sequence_as_it_was() -> None:
    sequence = decoding(PROMPT, 1)

    def draw(at: int) -> Sampled:
        if at:
            raise RuntimeError("no")
        return Sampled(sequence=sequence, token_id=4)

    with pytest.raises(RuntimeError, match="no"):
        verify(Draft(sequence, (4, 5)), draw)
    assert sequence.generated_ids == [1]


@pytest.mark.parametrize(
    ("answer", "is_right"),
    [((4, 5, 6), True), ((4, 5), True), ((9,), True), ((None,), True), ((4, None), True),
     ((), False), ((4, 9, 6), False), ((None, 5), False), ((4, 5, 6, 7), False)],
)  # fmt: skip
def test_an_answer_beside_its_draft_is_not_believed(
    answer: tuple[int | None, ...], is_right: bool
) -> None:
    sequence = decoding()
    batch = Batch(decode=(sequence,), drafts=(Draft(sequence, (4, 5)),))
    sampled = [Sampled(sequence=sequence, token_id=token_id) for token_id in answer]
    if is_right:
        check_answer(batch, sampled)
        return
    with pytest.raises(RuntimeError, match="the runner answered"):
        check_answer(batch, sampled)
