"""The measure of what affinity finds: what is asked, what the oracle says, and how it is judged."""

from __future__ import annotations

from loadtest.prefix.__main__ import _aims
from loadtest.prefix.measure import Figures
from loadtest.prefix.questions import Question, cacheable_tokens, make_questions
from worker.engine.prefix import BLOCK_TOKENS


def _question(text: str) -> Question:
    return Question(at=0.0, text=text, answer_tokens=1)


def test_a_seed_gives_the_same_questions_in_order_of_arrival() -> None:
    questions = make_questions(300, per_s=10, seed=3)
    assert questions == make_questions(300, per_s=10, seed=3)
    assert questions != make_questions(300, per_s=10, seed=4)
    assert [q.at for q in questions] == sorted(q.at for q in questions)
    assert 15 < questions[-1].at < 60


def test_the_oracle_has_whatever_was_asked_before_in_whole_blocks() -> None:
    document = "d" * (3 * BLOCK_TOKENS)
    assert cacheable_tokens([_question(document)]) == 0
    assert cacheable_tokens([_question(document), _question(document + "why?")]) == 3 * BLOCK_TOKENS
    # The last tokens of a prompt are always computed.
    assert cacheable_tokens([_question(document), _question(document)]) == 2 * BLOCK_TOKENS
    assert cacheable_tokens([_question(document), _question("x" + document)]) == 0


def test_most_of_what_is_asked_could_be_cached() -> None:
    questions = make_questions(600, per_s=25, seed=1)
    assert cacheable_tokens(questions) > 0.7 * sum(len(q.text) for q in questions)


def _figures(hits: float, imbalance: float, failed: int = 0) -> Figures:
    return Figures(way="w", routers=1, requests=9, failed=failed, hits=hits, imbalance=imbalance)


def test_only_the_ways_that_are_meant_to_be_good_are_judged() -> None:
    good, bad = _figures(0.95, 1.1), _figures(0.5, 2.0)
    assert all(row.is_met for row in _aims([good, good, bad, bad]))
    assert [row.is_met for row in _aims([bad, good])] == [False, False, True, True, True, True]
    failed = _figures(0.95, 1.1, failed=1)
    assert not list(_aims([good, failed]))[-1].is_met
    assert all(row.is_met for row in _aims([good, good, failed]))
