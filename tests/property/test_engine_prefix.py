"""The prefix cache against a plain list: what is kept, what goes first, what a crash leaves behind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from worker.engine.prefix import BLOCK_TOKENS, PrefixCache, block_keys, num_reusable

PROMPTS = [tuple(range(start, start + 4 * BLOCK_TOKENS)) for start in (0, 500, 1000)]
# One that parts from the first after two blocks.
PROMPTS.append(PROMPTS[0][: 2 * BLOCK_TOKENS] + PROMPTS[1][: 2 * BLOCK_TOKENS])
CHAINS = [block_keys(prompt, b"") for prompt in PROMPTS]


class PrefixMachine(RuleBasedStateMachine):
    @initialize(num_blocks=st.integers(0, 9))
    def begin(self, num_blocks: int) -> None:
        self.evicted: list[bytes] = []
        self.cache = PrefixCache(num_blocks, on_eviction=self.evicted.append)
        self.kept: list[bytes] = []
        """Least recently used first."""
        self.written: dict[int, bytes] = {}
        self.num_blocks = num_blocks

    @rule(chain=st.sampled_from(CHAINS))
    def match(self, chain: tuple[bytes, ...]) -> None:
        known = 0
        while known < len(chain) and chain[known] in self.kept:
            known += 1
        assert self.cache.num_kept(chain) == known
        blocks = self.cache.match(chain)
        assert [self.written[block] for block in blocks] == list(chain[:known])
        for key in reversed(chain[:known]):
            self.kept.remove(key)
            self.kept.append(key)

    @rule(
        chains=st.lists(st.sampled_from(CHAINS), min_size=1, max_size=3),
        succeeds=st.booleans(),
    )
    def step(self, chains: list[tuple[bytes, ...]], succeeds: bool) -> None:
        """Some prompts are computed in one step, which may fail."""
        pending: dict[bytes, int] = {}
        for key in dict.fromkeys(key for chain in chains for key in chain):
            block = self.cache.reserve(key)
            if key in self.kept or (not self.kept and len(pending) == self.num_blocks):
                assert block is None
                continue
            if len(pending) + len(self.kept) == self.num_blocks:
                gone = self.kept.pop(0)
                assert self.written[block or 0] == gone, "the least recently used goes first"
                assert self.evicted.pop() == gone
            assert block is not None
            assert block not in pending.values()
            pending[key] = block
            self.written[block] = key
            assert self.cache.reserve(key) is None
        if succeeds:
            self.cache.commit()
            self.kept += reversed(pending)
        else:
            self.cache.drop()

    @invariant()
    def books_agree(self) -> None:
        if not hasattr(self, "cache"):
            return
        self.cache.check_integrity()
        assert not self.evicted, "nothing goes in secret"
        assert len(self.cache) == len(self.kept) <= self.num_blocks


TestPrefixCache = PrefixMachine.TestCase


@given(
    first=st.lists(st.integers(0, 3), max_size=140),
    second=st.lists(st.integers(0, 3), max_size=140),
    shared=st.lists(st.integers(0, 3), max_size=140),
)
def test_keys_agree_exactly_as_far_as_the_tokens_do(
    first: list[int], second: list[int], shared: list[int]
) -> None:
    one, other = shared + first, shared + second
    keys, others = block_keys(one, b"s"), block_keys(other, b"s")
    assert len(keys) == len(one) // BLOCK_TOKENS
    for index, (key, another) in enumerate(zip(keys, others, strict=False)):
        end = (index + 1) * BLOCK_TOKENS
        assert (key == another) == (one[:end] == other[:end])


def test_another_salt_shares_nothing() -> None:
    prompt = list(range(200))
    keys = {salt: block_keys(prompt, salt) for salt in (b"", b"a", b"b", b"a" * 64)}
    assert len({key for chain in keys.values() for key in chain}) == 4 * (200 // BLOCK_TOKENS)


@pytest.mark.parametrize(
    ("tokens", "blocks"), [(0, 0), (1, 0), (32, 0), (33, 0), (34, 1), (65, 1), (66, 2), (1000, 31)]
)
def test_two_tokens_at_least_are_computed(tokens: int, blocks: int) -> None:
    assert num_reusable(tokens) == blocks


def test_of_a_chain_the_end_goes_first() -> None:
    cache = PrefixCache(4)
    for key in CHAINS[0]:
        cache.reserve(key)
    cache.commit()
    assert cache.reserve(CHAINS[1][0]) is not None
    cache.commit()
    assert len(cache.match(CHAINS[0])) == 3


def test_lost_blocks_are_noticed() -> None:
    cache = PrefixCache(2)
    cache.reserve(CHAINS[0][0])
    cache._pending.clear()
    with pytest.raises(RuntimeError, match="lost"):
        cache.check_integrity()
