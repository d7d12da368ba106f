"""Logits → tokens. Each row is drawn by itself: neighbours, their number and their order change nothing.

Steps of one row, in this order (x: logits of the row, float32; those that are off are skipped):

    bias          x_t += b_t; a bias of −100 or less bans the token
    penalties     worker.runtime.penalties
    end tokens    banned while the completion is shorter than `min_tokens`
    grammar       everything banned that it does not allow next; end tokens stay where the text is complete
    temperature   T = 0: the largest x, the lowest id among equals. Else w_t = exp((x_t − max x) / T)
    top-k         the k largest w, the lowest ids among equals
    top-p         of these, the fewest largest whose sum reaches p · Σw
    min-p         of these, those with w_t ≥ m · max w
    draw          u = Philox(seed, choice, position); the first t, in order of ids, whose running sum exceeds u · Σw

Sources: top-k, Fan et al., "Hierarchical neural story generation", 2018; top-p, Holtzman et al., "The curious case of
neural text degeneration", 2020; min-p, Nguyen et al., "Min-p sampling", 2024.

The running sum goes by id, not by size: two tokens of nearly the same weight may swap places in a sorted order when a
logit moves by a rounding error, and then the same u would pick another token. Log-probabilities are those of the raw
distribution, x − max x − ln Σ exp(x − max x), before any of this, grammar included.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from common.errors import InvalidRequest, LeptonError, Reason
from worker.engine.grammar import Matcher
from worker.engine.ports import Sampled, TopLogprob
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import Sequence
from worker.engine.stopping import banned_ids
from worker.runtime.penalties import SeenTokens, wants_counts
from worker.runtime.philox import uniform

__all__ = ["BAN_BIAS", "Sampler", "largest"]

BAN_BIAS: Final = -100.0
"""From here down a bias means never."""

HEAD_WIDTHS: Final = (4.0, 8.0, 16.0)
"""Filters look first at tokens within these many nats of the best: sorting a whole vocabulary costs milliseconds."""

TEMPERATURE_MIN: Final = 1e-30
"""Below it float32 knows only 0; from far above it on only the largest logits have any weight."""

Floats = npt.NDArray[np.float32]


class Sampler:
    """Draws the next token of each row; keeps per sequence what penalties and grammars need, until `release`."""

    def __init__(self) -> None:
        self._seen: dict[Sequence, SeenTokens] = {}
        self._matchers: dict[Sequence, Matcher] = {}

    def __repr__(self) -> str:
        return f"<Sampler counting for {len(self._seen)} sequences, matching for {len(self._matchers)}>"

    def release(self, sequence: Sequence) -> None:
        """Forgets a sequence; nothing happens to one that was never known."""
        self._seen.pop(sequence, None)
        self._matchers.pop(sequence, None)

    def sample(
        self,
        logits: Floats,
        sequences: SequenceOf[Sequence],
        *,
        best: npt.NDArray[np.int64] | None = None,
    ) -> list[Sampled]:
        """One result per row of `logits` [rows, vocab]; a row that is not finite, or whose grammar cannot be followed,
        gets `token_id=None`.

        `best` as of `worker.runtime.forward.Computed`; what the graph has not found is looked for here. Position is the
        number of tokens generated so far. Changes neither logits nor sequences.
        """
        if logits.ndim != 2 or len(logits) != len(sequences):
            raise AssertionError(f"{len(sequences)} sequences for logits of shape {logits.shape}")
        if best is None:
            best = largest(logits)
        return [
            self._sample_row(logits[row], best_id, sequence)
            if best_id >= 0
            else Sampled(sequence=sequence, token_id=None)
            for row, (best_id, sequence) in enumerate(zip(best.tolist(), sequences, strict=True))
        ]

    def _sample_row(self, raw: Floats, best: int, sequence: Sequence) -> Sampled:
        if sequence.grammar is None:
            return self._draw_row(raw, best, sequence, None)
        try:
            matcher = self._matchers.get(sequence)
            if matcher is None:
                matcher = sequence.grammar.new_matcher(sequence.generated_ids)
                self._matchers[sequence] = matcher
            drawn = self._draw_row(raw, best, sequence, matcher)
            if drawn.token_id is None:
                return drawn
            known_id = sequence.next_known_id
            if known_id is not None:
                _follow(matcher, known_id, sequence)
                return drawn
            if drawn.token_id in sequence.stop.eos_ids:
                return drawn
            is_complete = matcher.advance(drawn.token_id)
        except LeptonError as error:
            return Sampled(sequence=sequence, token_id=None, error=error)
        # Complete too early is a dead end: at the next position every end token is banned.
        if is_complete and len(sequence.generated_ids) + 1 >= sequence.stop.min_tokens:
            return replace(drawn, is_complete=True)
        return drawn

    def _draw_row(
        self, raw: Floats, best: int, sequence: Sequence, matcher: Matcher | None
    ) -> Sampled:
        sampling = sequence.sampling
        banned = banned_ids(sequence)
        if (
            sampling.is_plain_greedy
            and best not in banned
            and (matcher is None or matcher.allows(best))
        ):
            return Sampled(sequence=sequence, token_id=best)
        logits = self._adjusted(raw, sequence, banned, matcher)
        if sampling.temperature == 0.0:
            token_id = int(logits.argmax())
        else:
            position = len(sequence.generated_ids)
            token_id = draw(logits, sampling, uniform(sampling.seed, sequence.choice, position))
        if sampling.logprobs is None:
            return Sampled(sequence=sequence, token_id=token_id)
        logprob, top = logprobs(raw, token_id, sampling.logprobs)
        return Sampled(sequence=sequence, token_id=token_id, logprob=logprob, top=top)

    def _adjusted(
        self, raw: Floats, sequence: Sequence, banned: frozenset[int], matcher: Matcher | None
    ) -> Floats:
        """A copy with bias, penalties and bans. When nothing is left to draw, bans do not count; under a grammar that
        is an error.
        """
        sampling = sequence.sampling
        logits = raw.copy()
        never = list(banned)
        for token_id, bias in sampling.logit_bias.items():
            if bias <= BAN_BIAS:
                never.append(token_id)
            else:
                logits[token_id] += np.float32(bias)
        if wants_counts(sampling):
            seen = self._seen.get(sequence)
            if seen is None:
                seen = self._seen[sequence] = SeenTokens(sequence)
            seen.catch_up(sequence)
            seen.apply(logits, sampling)
        if matcher is not None:
            logits[~matcher.allowed()] = -np.inf
            logits[never] = -np.inf
            if logits.max() == -np.inf:
                raise _dead_end(sequence)
        elif never and len(set(never)) < len(logits):
            logits[never] = -np.inf
        return logits


def largest(logits: Floats) -> npt.NDArray[np.int64]:
    """Of each row [rows, vocab] the id of the largest, the lowest among equals; −1 where one is not finite."""
    best = logits.argmax(axis=1)
    # Largest and smallest are no numbers where any is none: cheaper than asking each of them.
    tops = logits[np.arange(len(logits)), best]
    finite = np.isfinite(tops) & np.isfinite(logits.min(axis=1))
    return np.where(finite, best, -1)


def _follow(matcher: Matcher, known_id: int, sequence: Sequence) -> None:
    """Goes on by the token that another worker drew, whatever was drawn here."""
    if not matcher.allows(known_id):
        raise InvalidRequest(
            f"token {known_id} at position {len(sequence.generated_ids)} of what another worker generated does not "
            "follow the constraint",
            reason=Reason.GRAMMAR_UNSATISFIABLE,
            field="constraint",
        )
    matcher.advance(known_id)


def _dead_end(sequence: Sequence) -> InvalidRequest:
    return InvalidRequest(
        f"after {len(sequence.generated_ids)} tokens, all that the constraint allows is banned by logit_bias or "
        f"min_tokens ({sequence.stop.min_tokens})",
        reason=Reason.GRAMMAR_UNSATISFIABLE,
        field="constraint",
    )


def draw(logits: Floats, sampling: SamplingParams, u: float) -> int:
    """The token that `u` in [0, 1) falls on; `logits` [vocab] may hold −inf, temperature is above 0."""
    with np.errstate(over="ignore", under="ignore"):
        scaled = logits - logits.max()
        scaled /= np.float32(max(sampling.temperature, TEMPERATURE_MIN))
        ids = _keep(scaled, sampling)
        if ids is not None:
            scaled = scaled[ids]
        weights = np.exp(scaled)
    running = np.cumsum(weights, dtype=np.float64)
    at = int(np.searchsorted(running, u * running[-1], side="right"))
    # u · Σw may round up to Σw: then it is the last token that has any weight.
    at = min(at, int(np.searchsorted(running, running[-1], side="left")))
    return at if ids is None else int(ids[at])


def _keep(scaled: Floats, sampling: SamplingParams) -> npt.NDArray[np.intp] | None:
    """Ids that pass top-k, top-p and min-p, ascending; None when all do. `scaled` is at most 0."""
    if sampling.top_k <= 0 and sampling.top_p >= 1.0 and sampling.min_p <= 0.0:
        return None
    ids: npt.NDArray[np.intp] | None = None
    if 0 < sampling.top_k < len(scaled):
        ids = _top_k(scaled, sampling.top_k)
    if sampling.top_p < 1.0:
        ids = _top_p(scaled, ids, sampling.top_p)
    if sampling.min_p > 0.0:
        ids = np.arange(len(scaled)) if ids is None else ids
        ids = ids[np.exp(scaled[ids]) >= np.float32(sampling.min_p)]
    return None if ids is None else np.sort(ids)


def _top_k(scaled: Floats, k: int) -> npt.NDArray[np.intp]:
    """The k largest, the lowest ids among equals; `scaled` is at most 0 and has more than k entries."""
    for head in _heads(scaled):
        if len(head) < k:
            continue
        values = scaled[head]
        limit = np.partition(values, len(values) - k)[len(values) - k]
        above, equal = head[values > limit], head[values == limit]
        return np.concatenate([above, equal[: k - len(above)]])
    raise AssertionError("unreachable: the last head has all")


def _heads(scaled: Floats) -> Iterator[npt.NDArray[np.intp]]:
    """Longer and longer beginnings of the order by size, as ids in their own order; the last has all."""
    for width in HEAD_WIDTHS:
        yield np.flatnonzero(scaled >= -width)
    yield np.arange(len(scaled))


def _top_p(scaled: Floats, ids: npt.NDArray[np.intp] | None, top_p: float) -> npt.NDArray[np.intp]:
    """The fewest largest whose weights reach `top_p` of the sum, the lowest ids first among equals; at least one."""
    ids = np.arange(len(scaled)) if ids is None else np.sort(ids)
    values = scaled[ids]
    goal = top_p * float(np.exp(values).sum(dtype=np.float64))
    for head in _heads(values):
        weights = np.exp(values[head])
        if len(head) < len(values) and float(weights.sum(dtype=np.float64)) < goal:
            continue
        order = np.argsort(-weights, kind="stable")
        running = np.cumsum(weights[order], dtype=np.float64)
        count = int(np.searchsorted(running, goal, side="left")) + 1
        return ids[head[order[:count]]]
    raise AssertionError("unreachable: the last head has all")


def logprobs(raw: Floats, token_id: int, num_top: int) -> tuple[float, tuple[TopLogprob, ...]]:
    """Log-probability of `token_id` and of the `num_top` most likely tokens: best first, then by id."""
    with np.errstate(over="ignore", under="ignore"):
        shifted = raw - raw.max()
        log_sum = float(np.log(np.exp(shifted).sum(dtype=np.float64)))
    top_ids = (
        _top_k(shifted, num_top) if 0 < num_top < len(raw) else np.arange(len(raw))[: num_top or 0]
    )
    order = np.lexsort((top_ids, -raw[top_ids]))
    top = tuple(TopLogprob(int(t), min(0.0, float(shifted[t]) - log_sum)) for t in top_ids[order])
    return min(0.0, float(shifted[token_id]) - log_sum), top
