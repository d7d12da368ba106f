"""The sampler against a slow one written differently, against chance, and against its own neighbours."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from common.errors import InvalidRequest, Reason
from tests.support.tiny_models import make_sequence
from worker.engine.ports import Sampled
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import Sequence
from worker.runtime.philox import philox4x32, uniform
from worker.runtime.sampler import Sampler

VOCAB = 40
Logits = npt.NDArray[np.float32]


# A reference that shares nothing with the sampler: Python floats, lists, one sorted order for all filters.


def reference_weights(
    logits: list[float],
    sampling: SamplingParams,
    prompt: list[int],
    completion: list[int],
    banned: set[int],
) -> list[float]:
    """Weight of each token when drawing; temperature above 0."""
    x = list(logits)
    never = set(banned)
    for token, bias in sampling.logit_bias.items():
        if bias <= -100:
            never.add(token)
        else:
            x[token] += bias
    counts = Counter(completion)
    for token in set(prompt) | set(completion):
        if x[token] > 0:
            x[token] /= sampling.repetition_penalty
        else:
            x[token] *= sampling.repetition_penalty
    for token, count in counts.items():
        x[token] -= sampling.frequency_penalty * count + sampling.presence_penalty
    best = max(value for token, value in enumerate(x) if token not in never)
    weights = [
        0.0 if token in never else math.exp((value - best) / sampling.temperature)
        for token, value in enumerate(x)
    ]
    order = sorted(range(len(x)), key=lambda token: (-weights[token], token))
    if sampling.top_k:
        order = order[: sampling.top_k]
    total, kept, running = sum(weights[t] for t in order), [], 0.0
    for token in order:
        kept.append(token)
        running += weights[token]
        if running >= sampling.top_p * total:
            break
    kept = [t for t in kept if weights[t] >= sampling.min_p]
    return [weights[t] if t in kept else 0.0 for t in range(len(x))]


def reference_draw(weights: list[float], u: float) -> tuple[int, float]:
    """The token, and how close `u` comes to a border (of 1)."""
    total, running, borders = sum(weights), 0.0, []
    for weight in weights:
        running += weight
        borders.append(running / total)
    token = next(t for t, border in enumerate(borders) if border > u)
    return token, min(abs(border - u) for border in borders)


def sample(
    logits: Logits | list[float], sequence: Sequence, sampler: Sampler | None = None
) -> Sampled:
    (result,) = (sampler or Sampler()).sample(np.array([logits], np.float32), [sequence])
    return result


token_ids = st.integers(0, VOCAB - 1)
samplings = st.builds(
    SamplingParams,
    temperature=st.floats(0.05, 3.0),
    top_p=st.one_of(st.just(1.0), st.floats(0.05, 1.0)),
    top_k=st.one_of(st.just(0), st.integers(1, VOCAB + 5)),
    min_p=st.one_of(st.just(0.0), st.floats(0.0, 0.9)),
    repetition_penalty=st.one_of(st.just(1.0), st.floats(0.3, 3.0)),
    frequency_penalty=st.one_of(st.just(0.0), st.floats(-2.0, 2.0)),
    presence_penalty=st.one_of(st.just(0.0), st.floats(-2.0, 2.0)),
    logit_bias=st.dictionaries(token_ids, st.one_of(st.just(-100.0), st.floats(-5, 5)), max_size=4),
    seed=st.integers(0, 2**64 - 1),
)


class FixedGrammar:
    """Lets the same ids follow at every position, and what `advance` says be what the test says."""

    def __init__(self, allowed: set[int], *, complete_after: int = 1 << 30) -> None:
        self._allowed = np.isin(np.arange(VOCAB), list(allowed))
        self._complete_after = complete_after
        self.taken: list[int] = []
        self.broken: InvalidRequest | None = None

    def new_matcher(self, generated_ids: Iterable[int] = ()) -> FixedGrammar:
        self.taken = list(generated_ids)
        return self

    def allows(self, token_id: int) -> bool:
        return bool(self.allowed()[token_id])

    def allowed(self) -> npt.NDArray[np.bool_]:
        if self.broken:
            raise self.broken
        return self._allowed

    def advance(self, token_id: int) -> bool:
        self.taken.append(token_id)
        return len(self.taken) >= self._complete_after


def constrained(grammar: FixedGrammar, **options: Any) -> Sequence:
    sequence = make_sequence([1], **options)
    sequence.grammar = grammar
    return sequence


@settings(max_examples=150, deadline=None)
@given(
    sampling=samplings,
    allowed=st.one_of(st.none(), st.sets(token_ids, min_size=5)),
    numbers=st.integers(0, 1 << 30),
    prompt=st.lists(token_ids, min_size=1, max_size=12),
    completion=st.lists(token_ids, max_size=12),
    choice=st.integers(0, 7),
    min_tokens=st.integers(0, 12),
)
def test_draws_what_the_slow_reference_draws(
    sampling: SamplingParams,
    allowed: set[int] | None,
    numbers: int,
    prompt: list[int],
    completion: list[int],
    choice: int,
    min_tokens: int,
) -> None:
    """With and without a grammar, which is nothing but another ban."""
    logits = np.random.default_rng(numbers).normal(0, 3, VOCAB).astype(np.float32)
    sequence = make_sequence(
        prompt,
        choice=choice,
        sampling=sampling,
        generated_ids=completion,
        min_tokens=min_tokens,
        eos_ids=frozenset({3, 5}),
    )
    banned = {3, 5} if len(completion) < min_tokens else set()
    if allowed is not None:
        sequence.grammar = FixedGrammar(allowed)
        banned |= set(range(VOCAB)) - allowed
        never = {token for token, bias in sampling.logit_bias.items() if bias <= -100}
        assume(set(range(VOCAB)) - banned - never)
    weights = reference_weights([float(v) for v in logits], sampling, prompt, completion, banned)
    token, distance = reference_draw(weights, uniform(sampling.seed, choice, len(completion)))
    result = sample(logits, sequence)
    assert result.token_id is not None
    if distance > 1e-4 and not _border_is_near(logits, sampling, prompt, completion, banned):
        assert result.token_id == token
    assert result.token_id not in banned
    assert sampling.logit_bias.get(result.token_id, 0.0) > -100


def _border_is_near(
    logits: Logits,
    sampling: SamplingParams,
    prompt: list[int],
    completion: list[int],
    banned: set[int],
) -> bool:
    """Whether rounding to float32 may move a token over the edge of top-p or min-p."""
    kept = set()
    for nudge in (-1e-4, 1e-4):
        nudged = dataclasses.replace(
            sampling,
            top_p=min(1.0, max(1e-6, sampling.top_p + nudge)) if sampling.top_p < 1 else 1.0,
            min_p=max(0.0, sampling.min_p + nudge) if sampling.min_p else 0.0,
        )
        weights = reference_weights([float(v) for v in logits], nudged, prompt, completion, banned)
        kept.add(tuple(t for t, w in enumerate(weights) if w > 0))
    return len(kept) > 1


def test_the_filters_leave_what_they_should() -> None:
    logits = [math.log(p) for p in (0.1, 0.4, 0.05, 0.3, 0.15)]

    def reachable(**params: Any) -> set[int | None]:
        return {
            sample(
                logits,
                make_sequence([0], sampling=SamplingParams(temperature=1.0, seed=s, **params)),
            ).token_id
            for s in range(300)
        }

    assert reachable() == {0, 1, 2, 3, 4}
    assert reachable(top_k=2) == {1, 3}
    assert reachable(top_k=1) == {1}
    assert reachable(top_p=0.69) == {1, 3}
    assert reachable(top_p=0.71) == {1, 3, 4}
    assert reachable(top_p=1e-9) == {1}
    assert reachable(min_p=0.3) == {1, 3, 4}
    assert reachable(min_p=1.0) == {1}
    assert reachable(top_k=3, top_p=0.45) == {1}
    assert reachable(top_k=3, top_p=0.48) == {1, 3}
    assert reachable(logit_bias={1: -100.0, 3: -100.0}) == {0, 2, 4}
    assert reachable(logit_bias={2: 50.0}) == {2}


def test_equal_logits_go_by_id() -> None:
    logits = [1.0, 2.0, 2.0, 2.0, 1.0]
    assert sample(logits, make_sequence([0])).token_id == 1
    drawn = {
        sample(
            logits, make_sequence([0], sampling=SamplingParams(temperature=1.0, top_k=2, seed=s))
        ).token_id
        for s in range(100)
    }
    assert drawn == {1, 2}
    drawn = {
        sample(
            logits, make_sequence([0], sampling=SamplingParams(temperature=1.0, top_p=0.3, seed=s))
        ).token_id
        for s in range(100)
    }
    assert drawn == {1, 2}


@pytest.mark.parametrize(
    ("params", "weights"),
    [
        ({}, [0.1, 0.4, 0.05, 0.3, 0.15]),
        ({"top_k": 3}, [0, 0.4, 0, 0.3, 0.15]),
        ({"top_p": 0.8}, [0, 0.4, 0, 0.3, 0.15]),
        ({"min_p": 0.2}, [0.1, 0.4, 0, 0.3, 0.15]),
    ],
)
def test_draws_as_often_as_the_weights_say(params: dict[str, Any], weights: list[float]) -> None:
    logits = [math.log(p) for p in (0.1, 0.4, 0.05, 0.3, 0.15)]
    draws = 6000
    sampling = SamplingParams(temperature=1.0, seed=2026, **params)
    sequence, found, sampler = make_sequence([0], sampling=sampling), Counter[int](), Sampler()
    for _ in range(draws):
        token = sample(logits, sequence, sampler).token_id
        assert token is not None
        found[token] += 1
        sequence.generated_ids.append(token)
    total = sum(weights)
    expected = {t: draws * w / total for t, w in enumerate(weights) if w}
    assert found.keys() == expected.keys()
    chi_square = sum((found[t] - e) ** 2 / e for t, e in expected.items())
    assert chi_square < 18.5  # 0.1 % for four degrees of freedom; the seed is fixed


def test_temperature_sharpens() -> None:
    logits = [0.0, 1.0]
    for temperature in (0.25, 1.0, 4.0):
        sampling = SamplingParams(temperature=temperature, seed=9)
        sequence = make_sequence([0], sampling=sampling)
        ones = 0
        for _ in range(4000):
            token = sample(logits, sequence).token_id
            ones += token == 1
            sequence.generated_ids.append(0)
        expected = 1 / (1 + math.exp(-1 / temperature))
        assert abs(ones / 4000 - expected) < 4 * math.sqrt(expected * (1 - expected) / 4000)


@pytest.mark.parametrize("temperature", [1e-45, 1e-30, 1e-6, 10.0])
def test_extreme_temperatures_stay_finite(temperature: float) -> None:
    logits = [-80.0, 30.0, 29.0, -3e38]
    sampling = SamplingParams(temperature=temperature, seed=1)
    result = sample(logits, make_sequence([0], sampling=sampling))
    assert result.token_id in {1, 2}
    if temperature < 1:
        assert result.token_id == 1


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 30), order=st.permutations(range(6)), size=st.integers(1, 6))
def test_neighbours_and_their_order_change_nothing(seed: int, order: list[int], size: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (6, VOCAB)).astype(np.float32)
    kinds = [
        SamplingParams(),
        SamplingParams(temperature=0.8, seed=5),
        SamplingParams(temperature=1.2, top_p=0.9, top_k=20, seed=6, logprobs=3),
        SamplingParams(repetition_penalty=1.3, frequency_penalty=0.5),
        SamplingParams(temperature=0.7, min_p=0.1, presence_penalty=1.0, seed=7),
        SamplingParams(logprobs=0),
    ]
    rows = [
        make_sequence([1, 2, 3], choice=i, sampling=k, generated_ids=[4, 5, 5])
        for i, k in enumerate(kinds)
    ]
    alone = [sample(logits[i], row) for i, row in enumerate(rows)]
    chosen = list(order[:size])
    together = Sampler().sample(logits[chosen], [rows[i] for i in chosen])
    assert together == [alone[i] for i in chosen]


def test_penalties_count_on_and_are_forgotten() -> None:
    sampler, logits = Sampler(), [5.0, 4.9, 4.8, 0.0]
    sampling = SamplingParams(frequency_penalty=0.15)
    sequence = make_sequence([0, 0, 0, 0], sampling=sampling)
    for expected in (0, 1, 0, 2, 1, 0):
        result = sample(logits, sequence, sampler)
        assert result.token_id == expected
        sequence.generated_ids.append(expected)
    assert "1 sequences" in repr(sampler)
    sampler.release(sequence)
    assert "0 sequences" in repr(sampler)
    # Counted anew from the ids, as after a migration: the same.
    assert sample(logits, sequence, sampler) == sample(logits, sequence)


def test_presence_counts_once_and_repetition_counts_the_prompt() -> None:
    presence = make_sequence(
        [3], sampling=SamplingParams(presence_penalty=1.0), generated_ids=[0] * 9
    )
    assert sample([5.0, 3.9, 0.0, 0.0], presence).token_id == 0
    assert sample([5.0, 4.1, 0.0, 0.0], presence).token_id == 1
    repetition = make_sequence([0], sampling=SamplingParams(repetition_penalty=2.0))
    assert sample([5.0, 2.6, 0.0, 0.0], repetition).token_id == 1
    negative = make_sequence([0], sampling=SamplingParams(repetition_penalty=2.0))
    assert sample([-1.0, -1.5, -9.0, -9.0], negative).token_id == 1


def test_more_distinct_tokens_than_the_first_room() -> None:
    sampling = SamplingParams(repetition_penalty=10.0)
    sequence = make_sequence(
        list(range(500)), sampling=sampling, generated_ids=list(range(500, 899))
    )
    logits = np.full(900, 1.0, np.float32)
    logits[899] = 0.5
    assert sample(logits, sequence).token_id == 899


def test_end_tokens_wait_for_min_tokens() -> None:
    eos = frozenset({1})
    for sampling in (SamplingParams(), SamplingParams(temperature=0.01)):
        early = make_sequence([0], sampling=sampling, min_tokens=1, eos_ids=eos)
        assert sample([0.0, 9.0, 5.0], early).token_id == 2
        early.generated_ids.append(2)
        assert sample([0.0, 9.0, 5.0], early).token_id == 1


def test_when_everything_is_banned_bans_do_not_count() -> None:
    sampling = SamplingParams(logit_bias={0: -100.0, 1: -100.0})
    assert sample([1.0, 2.0], make_sequence([0], sampling=sampling)).token_id == 1


def test_log_probabilities_are_those_of_the_raw_distribution() -> None:
    logits = [1.0, 3.0, 2.0, 3.0]
    total = math.log(sum(math.exp(v) for v in logits))
    sampling = SamplingParams(logprobs=3, logit_bias={0: 50.0}, temperature=0.5)
    result = sample(logits, make_sequence([0], sampling=sampling))
    assert result.token_id == 0
    assert result.logprob == pytest.approx(1.0 - total, abs=1e-6)
    assert [t.token_id for t in result.top] == [1, 3, 2]
    assert [t.logprob for t in result.top] == pytest.approx(
        [3 - total, 3 - total, 2 - total], abs=1e-6
    )
    assert sample(logits, make_sequence([0], sampling=SamplingParams(logprobs=0))).top == ()
    everything = sample(logits, make_sequence([0], sampling=SamplingParams(logprobs=9))).top
    assert [t.token_id for t in everything] == [1, 3, 2, 0]
    extreme = sample([3e38, -3e38], make_sequence([0], sampling=SamplingParams(logprobs=2)))
    assert [t.logprob for t in extreme.top] == [0.0, -math.inf]
    certain = sample([0.0, 500.0], make_sequence([0], sampling=SamplingParams(logprobs=2)))
    assert certain.logprob == 0.0
    assert certain.top[1].logprob == -500.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [0, 1])
def test_a_row_that_is_not_finite_fails_alone(bad: float, at: int) -> None:
    logits = np.array([[1.0, 2.0], [1.0, 1.0], [5.0, 2.0]], np.float32)
    logits[1, at] = bad
    rows = [make_sequence([0], sampling=SamplingParams(temperature=t)) for t in (0.0, 1.0, 0.0)]
    assert [r.token_id for r in Sampler().sample(logits, rows)] == [1, None, 0]


def test_sampling_changes_neither_logits_nor_sequence() -> None:
    logits = np.array([[1.0, 2.0, 3.0]], np.float32)
    before = logits.copy()
    sampling = SamplingParams(
        temperature=0.7, top_k=2, logit_bias={0: 3.0}, repetition_penalty=2.0, logprobs=1
    )
    sequence = make_sequence([1, 2], sampling=sampling, generated_ids=[0])
    Sampler().sample(logits, [sequence])
    assert (logits == before).all()
    assert sequence.generated_ids == [0]


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # known answers of the paper's own library
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(
    counter: tuple[int, int, int, int], key: tuple[int, int], words: tuple[int, int, int, int]
) -> None:
    assert philox4x32(counter, key) == words


def test_the_draw_depends_on_seed_choice_and_position_alone() -> None:
    keys = [(s, c, p) for s in (0, 1, 2**63, 2**64 - 1) for c in range(3) for p in range(50)]
    draws = [uniform(*key) for key in keys]
    assert len(set(draws)) == len(keys)
    assert all(0.0 <= u < 1.0 for u in draws)
    assert abs(sum(draws) / len(draws) - 0.5) < 0.05
    assert draws == [uniform(*key) for key in keys]
    assert (
        uniform(42, 1, 7) == 0.022253272722070228
    )  # whatever changes this changes what callers get


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    "filters", [{}, {"top_k": 1}, {"top_p": 0.5}, {"min_p": 0.1}, {"top_k": 3, "top_p": 0.5}]
)
def test_a_repetition_penalty_near_zero_breaks_no_row(
    temperature: float, filters: dict[str, Any]
) -> None:
    """It makes seen logits larger than any number; an error here would end everybody in the batch."""
    logits = np.array([[1.0, 2.0, 3.0, -4.0]], np.float32)
    sampling = SamplingParams(
        temperature=temperature, repetition_penalty=float(np.float32(1e-40)), **filters
    )
    sequence = make_sequence([1, 3], sampling=sampling)
    (result,) = Sampler().sample(logits, [sequence])
    assert result.token_id == 1


def test_a_grammar_bans_what_it_does_not_allow_greedily_too() -> None:
    logits = [float(v) for v in range(VOCAB)]
    assert sample(logits, constrained(FixedGrammar({3, 7, 11}))).token_id == 11
    best = constrained(FixedGrammar({VOCAB - 1, 2}))
    assert sample(logits, best).token_id == VOCAB - 1
    assert best.grammar.taken == [VOCAB - 1]  # type: ignore[union-attr]


def test_log_probabilities_under_a_grammar_are_still_those_of_the_model() -> None:
    """All of them sum to 1, forbidden tokens may lead them, and the chosen one has its own."""
    logits = np.random.default_rng(4).normal(0, 2, VOCAB).astype(np.float32)
    sampling = SamplingParams(temperature=0.7, seed=3, logprobs=VOCAB)
    free = sample(logits, make_sequence([1], sampling=sampling))
    bound = sample(logits, constrained(FixedGrammar({4, 9}), sampling=sampling))
    assert bound.token_id in {4, 9}
    assert bound.top == free.top
    assert math.fsum(math.exp(top.logprob) for top in bound.top) == pytest.approx(1, abs=1e-5)
    assert bound.logprob == {top.token_id: top.logprob for top in free.top}[bound.token_id]
    assert bound.top[0].token_id not in {4, 9}


@pytest.mark.parametrize(
    "options",
    [
        {"sampling": SamplingParams(logit_bias={4: -100, 9: -100})},
        {"sampling": SamplingParams(temperature=1, logit_bias={4: -100}), "min_tokens": 2},
    ],
    ids=["biases", "min_tokens"],
)
def test_a_grammar_of_which_everything_is_banned_is_a_typed_dead_end(
    options: dict[str, Any],
) -> None:
    result = sample(
        [0.0] * VOCAB, constrained(FixedGrammar({4, 9}), eos_ids=frozenset({9}), **options)
    )
    assert result.token_id is None
    assert isinstance(result.error, InvalidRequest)
    assert result.error.reason is Reason.GRAMMAR_UNSATISFIABLE


def test_a_complete_grammar_ends_the_sequence_unless_min_tokens_wants_more() -> None:
    logits = [0.0] * VOCAB
    assert sample(logits, constrained(FixedGrammar({4}, complete_after=1))).is_complete
    assert not sample(logits, constrained(FixedGrammar({4}, complete_after=2))).is_complete
    too_early = sample(logits, constrained(FixedGrammar({4}, complete_after=1), min_tokens=2))
    assert (too_early.token_id, too_early.is_complete) == (4, False)


def test_an_end_token_is_not_given_to_the_grammar() -> None:
    sequence = constrained(FixedGrammar({9}), eos_ids=frozenset({9}))
    assert sample([0.0] * VOCAB, sequence).token_id == 9
    assert sequence.grammar.taken == []  # type: ignore[union-attr]


def test_a_grammar_that_fails_ends_its_own_row_only() -> None:
    failing, fine = FixedGrammar({4}), FixedGrammar({4})
    failing.broken = InvalidRequest("too complex", reason=Reason.GRAMMAR_TOO_LARGE)
    rows = [constrained(failing), make_sequence([1]), constrained(fine)]
    logits = np.zeros((3, VOCAB), np.float32)
    results = Sampler().sample(logits, rows)
    assert results[0].error is failing.broken
    assert [result.token_id for result in results] == [None, 0, 4]


def test_a_sequence_that_comes_with_tokens_starts_behind_them() -> None:
    """As one does that another worker began."""
    sequence = constrained(FixedGrammar({4}), generated_ids=[4, 4])
    sampler = Sampler()
    sample([0.0] * VOCAB, sequence, sampler)
    assert sequence.grammar.taken == [4, 4, 4]  # type: ignore[union-attr]
    sampler.release(sequence)
    assert "matching for 0" in repr(sampler)
