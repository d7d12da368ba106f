"""With drafts and without: every request of a random crowd gets the same tokens, log-probabilities and end."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import fake_runner
from tests.support.fake_runner import FakeRunner
from tests.support.repeating import Counted, echo, play, random_visits
from worker.engine import scheduler
from worker.engine.beginnings import Beginnings
from worker.engine.config import EngineConfig
from worker.engine.ports import Draft, RowSave, Sampled
from worker.engine.sequence import Sequence

ROOM = 120


def differ(
    seed: int,
    *,
    num_visits: int = 6,
    num_slots: int = 4,
    num_blocks: int = 9,
    num_drafted: int = 32,
    config: EngineConfig | None = None,
) -> tuple[bool, Counted]:
    """Whether anybody gets something else; and the runner with drafts."""
    visits = random_visits(random.Random(seed), num_visits, room=ROOM)
    config = config or EngineConfig(chunk_tokens_min=4, chunk_tokens_first=24, lookup_ngram=2)

    def runner(num_drafted: int) -> Counted:
        fake = FakeRunner(
            num_slots=num_slots,
            capacity=ROOM,
            num_blocks=num_blocks,
            keeps_decoded=True,
            num_drafted=num_drafted,
            tokens=echo,
        )
        return Counted(fake)

    without, drafting = runner(0), runner(num_drafted)
    return play(without, visits, config) != play(drafting, visits, config), drafting


@given(
    seed=st.integers(0, 1 << 32),
    num_visits=st.integers(1, 8),
    num_slots=st.integers(1, 5),
    num_blocks=st.sampled_from([0, 3, 40]),
    num_drafted=st.sampled_from([1, 7, 32]),
    tokens_max=st.integers(1, 12),
    streams_max=st.integers(1, 5),
    ngram=st.integers(1, 4),
)
def test_drafts_change_nothing_that_anybody_gets(
    seed: int,
    num_visits: int,
    num_slots: int,
    num_blocks: int,
    num_drafted: int,
    tokens_max: int,
    streams_max: int,
    ngram: int,
) -> None:
    config = EngineConfig(
        chunk_tokens_min=4,
        chunk_tokens_first=24,
        lookup_tokens_max=tokens_max,
        lookup_streams_max=streams_max,
        lookup_ngram=ngram,
    )
    is_different, _ = differ(
        seed,
        num_visits=num_visits,
        num_slots=num_slots,
        num_blocks=num_blocks,
        num_drafted=num_drafted,
        config=config,
    )
    assert not is_different


def test_they_save_steps_where_answers_repeat() -> None:
    """Or the test above would prove nothing."""
    seen = sum((differ(seed)[1].seen for seed in range(20)), start=Counted(FakeRunner()).seen)
    assert seen["accepted"] > seen["steps"] / 4
    assert seen["accepted"] < seen["drafted"]
    assert seen["saved"] > 20, "blocks of decoded tokens"


# Negative controls: with any one of these faults somebody gets something else, or the watching runner complains.


def believe_every_draft(patch: pytest.MonkeyPatch) -> None:
    verify = fake_runner.verify

    def trusting(draft: Draft, draw: Callable[[int], Sampled]) -> list[Sampled]:
        proposed = iter(draft.token_ids)
        return verify(draft, lambda at: replace(draw(at), token_id=next(proposed, 1)))

    patch.setattr(fake_runner, "verify", trusting)


def draw_everything_at_one_position(patch: pytest.MonkeyPatch) -> None:
    def standing(draft: Draft, draw: Callable[[int], Sampled]) -> list[Sampled]:
        results = [draw(0)]
        for at, proposed_id in enumerate(draft.token_ids, start=1):
            if results[-1].token_id != proposed_id:
                break
            results.append(draw(at))
        return results

    patch.setattr(fake_runner, "verify", standing)


def count_rejected_tokens_as_computed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(scheduler, "num_accepted", lambda draft, sampled: len(draft.token_ids))


def forget_accepted_tokens(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(scheduler, "num_accepted", lambda draft, sampled: 0)


def keep_blocks_with_drafts(patch: pytest.MonkeyPatch) -> None:
    """Blocks are saved as soon as four tokens complete them that nobody has verified."""
    of_rows = Beginnings.of_rows

    def early(beginnings: Beginnings, decode: tuple[Sequence, ...]) -> tuple[RowSave, ...]:
        for sequence in decode:
            sequence.num_computed_tokens += 4
            sequence.generated_ids += (7, 7, 7, 7)
        try:
            return of_rows(beginnings, decode)
        finally:
            for sequence in decode:
                sequence.num_computed_tokens -= 4
                del sequence.generated_ids[-4:]

    patch.setattr(Beginnings, "of_rows", early)


@pytest.mark.parametrize(
    "plant",
    [
        believe_every_draft,
        draw_everything_at_one_position,
        count_rejected_tokens_as_computed,
        forget_accepted_tokens,
        keep_blocks_with_drafts,
    ],
)
def test_a_planted_fault_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert any(is_found(seed) for seed in range(10))


def is_found(seed: int) -> bool:
    """By a difference, by the books, or by the watching runner: its complaint fails the step, and with it an answer."""
    try:
        return differ(seed)[0]
    except (AssertionError, RuntimeError):
        return True
