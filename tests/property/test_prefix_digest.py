"""What listeners of a prefix digest believe, against what is held, whenever they listen."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from worker.engine.prefix_digest import DigestNews, PrefixDigest

HASHES = st.integers(0, 11)
BLOCKS = st.integers(0, 4)


class Listener:
    """Keeps what it was told, as a router does."""

    def __init__(self) -> None:
        self.heard: int | None = None
        self.believes: set[int] = set()

    def listen(self, digest: PrefixDigest) -> DigestNews:
        news = digest.since(self.heard)
        self.heard = news.number
        if news.is_whole:
            self.believes.clear()
        self.believes.difference_update(news.gone)
        self.believes.update(news.held)
        return news


class DigestMachine(RuleBasedStateMachine):
    """Beginnings come to be held and blocks are evicted, while some listen often and some do not."""

    @initialize(hashes_max=st.integers(0, 6))
    def begin(self, hashes_max: int) -> None:
        self.digest = PrefixDigest(hashes_max)
        self.hashes_max = hashes_max
        self.held: dict[int, int] = {}
        """Hash → block, in the order in which they came."""
        self.listeners = [Listener() for _ in range(3)]

    @rule(block=BLOCKS, prefix_hash=HASHES)
    def hold(self, block: int, prefix_hash: int) -> None:
        self.digest.hold(block, prefix_hash)
        self.held[prefix_hash] = block
        while len(self.held) > self.hashes_max:
            del self.held[next(iter(self.held))]

    @rule(block=BLOCKS)
    def evict(self, block: int) -> None:
        self.digest.evict(block)
        self.held = {h: b for h, b in self.held.items() if b != block}

    @rule(number=st.integers(0, 2))
    def listen(self, number: int) -> None:
        listener = self.listeners[number]
        news = listener.listen(self.digest)
        assert listener.believes == set(self.held)
        assert len(news.held) <= self.hashes_max
        assert len(news.gone) <= self.hashes_max
        assert not set(news.held) & set(news.gone)
        assert not listener.listen(self.digest), "nothing is told twice"

    @rule(number=st.integers(0, 2))
    def begin_anew(self, number: int) -> None:
        self.listeners[number] = Listener()

    @invariant()
    def books_agree(self) -> None:
        if hasattr(self, "digest"):
            assert len(self.digest) == len(self.held)


TestDigest = DigestMachine.TestCase
TestDigest.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_listener_that_hears_no_evictions_is_soon_wrong() -> None:
    """The negative control."""
    digest, deaf = PrefixDigest(4), Listener()
    digest.hold(1, 1)
    deaf.listen(digest)
    digest.evict(1)
    assert deaf.believes != set(digest.since(None).held)


@pytest.mark.parametrize("changes", [1, 100])
def test_only_what_is_new_is_told(changes: int) -> None:
    digest, listener = PrefixDigest(1000), Listener()
    for number in range(1000):
        digest.hold(number, number)
    assert listener.listen(digest).is_whole
    for number in range(changes):
        digest.evict(number)
    news = listener.listen(digest)
    assert not news.is_whole
    assert sorted(news.gone) == list(range(changes))
