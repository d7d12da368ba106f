"""Which sequences get a draft in the next step, and of what. Engine thread only.

Only steps that decode few rows and compute no prompt have drafts: what another row costs is known from them, and with
many rows there is nothing to be had (`worker.engine.payoff`). A constraint's mask is computed for one token at a time,
so constrained sequences have none.
"""

from __future__ import annotations

from typing import Final, final

from worker.engine.config import EngineConfig
from worker.engine.decode_cost import Decoding
from worker.engine.ngrams import NgramIndex
from worker.engine.payoff import Payoff
from worker.engine.ports import CacheLayout, Draft
from worker.engine.sequence import Sequence
from worker.engine.speed import SpeedMeter

__all__ = ["Drafter"]

_INDEXED_AT_ONCE: Final = 2048
"""Tokens of a sequence that are taken in between two steps, in less than a millisecond; a long prompt has its first
draft some steps later."""
_IN_A_ROW_MAX: Final = 15
"""Steps with drafts, after which comes one without: what drafts cost can only be told beside it."""
_STRETCH: Final = 2.0
"""Where steps take longer than they should as it is, drafts may make them longer by this factor."""


@final
class Drafter:
    """Keeps an index for each sequence that decodes among few, until `forget`."""

    def __init__(self, config: EngineConfig, layout: CacheLayout) -> None:
        self._config = config
        self._most = layout.num_drafted
        self._known: dict[Sequence, tuple[NgramIndex, Payoff]] = {}
        self._in_a_row = 0
        """Steps with drafts."""

    def __repr__(self) -> str:
        return f"<Drafter of {len(self._known)} sequences>"

    def propose(self, decode: tuple[Sequence, ...], meter: SpeedMeter) -> tuple[Draft, ...]:
        """Drafts for a step that only decodes `decode`, in their order."""
        rows = len(decode)
        if not self._most or not 1 <= rows <= self._config.lookup_streams_max:
            return ()
        if self._in_a_row == _IN_A_ROW_MAX:
            self._in_a_row = 0
            return ()
        decoding = Decoding.of(decode)
        price = rows * meter.draft_price(decoding)
        room = self._room(decoding, meter)
        drafts = []
        for sequence in decode:
            token_ids = self._draft(sequence, price, room)
            if token_ids:
                drafts.append(Draft(sequence, token_ids))
                room -= len(token_ids)
        self._in_a_row = self._in_a_row + 1 if drafts else 0
        return tuple(drafts)

    def learn(self, draft: Draft, num_accepted: int) -> None:
        """What became of a draft."""
        _, payoff = self._known[draft.sequence]
        payoff.learn(num_proposed=len(draft.token_ids), num_accepted=num_accepted)

    def forget(self, sequence: Sequence) -> None:
        """The sequence has ended, or never had a draft."""
        self._known.pop(sequence, None)

    def _room(self, decoding: Decoding, meter: SpeedMeter) -> int:
        """Tokens of drafts in this step, over all rows."""
        step_s = max(self._config.step_ms_max / 1000, _STRETCH * meter.decode_s(decoding))
        fits = meter.drafts_within(step_s, decoding)
        return self._most if fits is None else min(fits, self._most)

    def _draft(self, sequence: Sequence, price: float, room: int) -> tuple[int, ...]:
        if sequence.grammar is not None:
            return ()
        if sequence not in self._known:
            self._known[sequence] = NgramIndex(self._config.lookup_ngram), Payoff()
        index, payoff = self._known[sequence]
        _take_in(index, sequence)
        if len(index) < sequence.num_tokens:
            return ()
        # The draw behind the draft is a token, too.
        num_generated = len(sequence.generated_ids)
        left = sequence.stop.max_tokens - num_generated - 1
        most = min(self._config.lookup_tokens_max, room, left)
        token_ids = index.propose(most) if most > 0 else ()
        if not token_ids:
            return ()
        token_ids = _before_end(token_ids, sequence)
        return token_ids[: payoff.size(num_generated, price=price, most=len(token_ids))]


def _take_in(index: NgramIndex, sequence: Sequence) -> None:
    known, in_prompt = len(index), sequence.num_prompt_tokens
    if known < in_prompt:
        index.extend(sequence.prompt_ids[known : known + _INDEXED_AT_ONCE])
    known = len(index) - in_prompt
    if known >= 0:
        index.extend(sequence.generated_ids[known : known + _INDEXED_AT_ONCE])


def _before_end(token_ids: tuple[int, ...], sequence: Sequence) -> tuple[int, ...]:
    """Without the first token that would end the sequence, and what follows it."""
    stop = sequence.stop
    for at, token_id in enumerate(token_ids):
        if token_id in stop.eos_ids or token_id in stop.stop_ids:
            return token_ids[:at]
    return token_ids
