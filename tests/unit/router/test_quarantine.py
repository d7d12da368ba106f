"""Suspects, their places, and what is remembered of them. The invariants have a property test."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from common.errors import Quarantined, Reason
from router.core.deaths import Key
from router.core.quarantine import Quarantine, QuarantineLimits
from router.core.suspect import Suspect
from tests.support.manual_clock import ManualClock

W1, W2, W3 = ("w1", "1"), ("w2", "1"), ("w3", "1")


@dataclass
class Worker:
    key: Key = W1
    is_alive: bool = False
    is_abandoned: bool = False


class Ward:
    """A quarantine with suspects a, b, c, … of the death of w1."""

    def __init__(self, names: str = "", **limits: float) -> None:
        self.clock = ManualClock()
        self.quarantine = Quarantine(QuarantineLimits(**limits), self.clock)  # type: ignore[arg-type]
        self.dead = Worker()
        self.suspects = [self.accuse(name.encode()) for name in names]

    def accuse(self, fingerprint: bytes) -> Suspect:
        return self.quarantine.accuse(None, fingerprint, self.dead)


def test_who_waits_longest_comes_next() -> None:
    ward = Ward("abcd")
    a, b, c, d = ward.suspects
    assert ward.quarantine.begin(a, W2)
    assert not ward.quarantine.begin(b, W2)
    for suspect, wanted in ((b, [W3]), (c, [W2]), (d, [W2])):
        ward.quarantine.wait(suspect, wanted)
    ward.quarantine.clear(a)
    assert (b.place, c.place, d.place) == (None, W2, None), "b does not want that one"
    assert c.turn.is_set()
    assert not d.turn.is_set()
    ward.quarantine.end(c)
    assert d.place == W2
    ward.quarantine.check_integrity()


def test_two_alike_are_not_tried_at_the_same_time() -> None:
    ward = Ward("aab")
    first, second, other = ward.suspects
    assert ward.quarantine.begin(first, W2)
    assert not ward.quarantine.begin(second, W3)
    assert ward.quarantine.begin(other, W3)
    ward.quarantine.wait(second, [W2, W3])
    ward.quarantine.clear(other)
    assert second.place is None
    ward.quarantine.clear(first)
    assert second.place in (W2, W3)
    ward.quarantine.check_integrity()


def test_conviction_reaches_those_alike_and_frees_those_beside() -> None:
    ward = Ward("ab")
    poison, like = ward.suspects[0], ward.accuse(b"a")
    ward.quarantine.begin(poison, W2)
    beside = ward.quarantine.accuse(None, b"z", Worker(W2))
    ward.quarantine.wait(like, [W2])
    ward.quarantine.wait(beside, [W2])
    ward.quarantine.judge(poison, Worker(W2))
    assert like.turn.is_set()
    with pytest.raises(Quarantined) as caught:
        ward.quarantine.check(like.fingerprint)
    assert caught.value.reason is Reason.POISON_REQUEST
    assert not ward.quarantine.stands(beside), "that death is explained"
    assert beside.turn.is_set()
    assert ward.quarantine.stands(ward.suspects[1]), "the first one is not"


def test_suspicion_ends_when_the_worker_speaks_again_unless_it_was_given_up() -> None:
    ward = Ward("a")
    (a,) = ward.suspects
    assert ward.quarantine.stands(a)
    ward.dead.is_alive = True
    assert not ward.quarantine.stands(a)
    ward.dead.is_abandoned = True
    assert ward.quarantine.stands(a)


def test_like_of_a_suspect_is_one_from_the_start() -> None:
    ward = Ward("a")
    assert ward.quarantine.admit(b"b") is None
    assert ward.quarantine.admit(b"a") is not None
    ward.dead.is_alive = True
    assert ward.quarantine.admit(b"a") is None


def test_one_of_two_alike_is_enough_to_make_a_third_one_a_suspect() -> None:
    ward = Ward("a")
    ward.quarantine.accuse(None, b"a", Worker(W2))
    ward.dead.is_alive = True
    third = ward.quarantine.admit(b"a")
    assert third is not None
    assert [witness.key for witness in third.witnesses] == [W2]


def test_who_leaves_uncleared_is_remembered_and_who_was_cleared_is_not() -> None:
    ward = Ward("ab", quarantine_s=10)
    a, b = ward.suspects
    ward.quarantine.leave(a)
    ward.quarantine.clear(b)
    ward.quarantine.leave(b)
    assert ward.quarantine.num_suspects == 0
    assert ward.quarantine.is_watching
    assert ward.quarantine.admit(b"b") is None
    again = ward.quarantine.admit(b"a")
    assert again is not None
    ward.quarantine.leave(again)
    ward.clock.advance(10)
    assert ward.quarantine.admit(b"a") is None


def test_convictions_end_in_time_and_are_bounded() -> None:
    ward = Ward("abc", quarantine_s=10, entries_max=2)
    for suspect, key in zip(ward.suspects, (W1, W2, W3), strict=True):
        ward.quarantine.begin(suspect, key)
        assert ward.quarantine.judge(suspect, Worker(key))
    ward.quarantine.check(b"a")  # the oldest was forgotten
    with pytest.raises(Quarantined, match="another 10 s"):
        ward.quarantine.check(b"c")
    ward.clock.advance(10)
    assert not ward.quarantine.is_watching
    ward.quarantine.check(b"c")


@pytest.mark.parametrize(
    ("after_s", "is_cleared", "is_convicted"),
    [(0, True, False), (60, True, True), (0, False, True)],
)
def test_while_workers_die_by_nobodys_doing_one_death_on_probation_convicts_nobody(
    after_s: float, *, is_cleared: bool, is_convicted: bool
) -> None:
    """Both who were on w1 go on: nobody killed it. Then c loses w2, and w3 with it alone."""
    ward = Ward("ab")
    for suspect in ward.suspects:
        if is_cleared or suspect is ward.suspects[0]:
            ward.quarantine.clear(suspect)
    ward.clock.advance(after_s)
    c = ward.quarantine.accuse(None, b"c", Worker(W2))
    assert ward.quarantine.begin(c, W3)
    assert ward.quarantine.judge(c, Worker(W3)) is is_convicted
    if not is_convicted:
        assert ward.quarantine.begin(c, W1), "it may be tried once more"
        assert ward.quarantine.judge(c, Worker(W1))
    ward.quarantine.check_integrity()
    with pytest.raises(Quarantined):
        ward.quarantine.check(b"c")


def test_who_leaves_and_comes_again_may_prove_that_the_death_was_nobodys() -> None:
    """As every call does in direct mode that has lost its worker."""
    ward = Ward("a")
    ward.quarantine.leave(ward.suspects[0])
    again = ward.quarantine.admit(b"a")
    assert again is not None
    ward.quarantine.clear(again)
    c = ward.quarantine.accuse(None, b"c", Worker(W2))
    ward.quarantine.begin(c, W3)
    assert not ward.quarantine.judge(c, Worker(W3))


def test_who_is_accused_last_is_no_less_suspect() -> None:
    """Calls on one connection hear of its end one after the other: the first may be cleared before the last knows."""
    ward = Ward("a")
    ward.quarantine.clear(ward.suspects[0])
    poison = ward.accuse(b"poison")
    ward.quarantine.begin(poison, W3)
    assert ward.quarantine.judge(poison, Worker(W3))


def test_who_stood_beside_is_cleared_sooner_than_the_verdict_comes() -> None:
    ward = Ward("")
    poison = ward.accuse(b"poison")
    ward.quarantine.begin(poison, W2)
    ward.quarantine.charge(poison, Worker(W2))
    beside = ward.quarantine.accuse(None, b"beside", Worker(W2))
    ward.quarantine.clear(beside)
    assert ward.quarantine.judge(poison, Worker(W2))


def test_who_leaves_and_comes_again_has_no_further_try() -> None:
    ward = Ward("a")
    ward.quarantine.clear(ward.suspects[0])
    c = ward.quarantine.accuse(None, b"c", Worker(W2))
    ward.quarantine.begin(c, W3)
    assert not ward.quarantine.judge(c, Worker(W3))
    like = ward.quarantine.admit(b"c")
    assert like is not None
    assert like.num_deaths == 1
    for suspect in (c, like):
        ward.quarantine.leave(suspect)
    again = ward.quarantine.admit(b"c")
    assert again is not None
    ward.quarantine.begin(again, W1)
    assert ward.quarantine.judge(again, Worker(W1))


def test_quarantine_can_be_switched_off() -> None:
    assert not Ward(quarantine_s=0).quarantine.is_on
