"""Implements `worker.engine.grammar` with llguidance.

    engine thread   advance(t) ─┐           model runs            ┌─ allows / allowed ── draw ── advance …
    mask thread                 └─ fill: mask of what follows t ──┘

Copies of a matcher share a lexer, which remembers every state that any of them came to, and refuses all of them once it
has too many. So copies are made within a request only, never across requests.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence as SequenceOf
from typing import final

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher

from common.errors import InvalidRequest, Reason
from worker.runtime.grammar.masks import MaskThread
from worker.runtime.grammar.refusal import refusal_of

__all__ = ["LlGrammar"]


@final
class LlGrammar:
    """Implements `worker.engine.grammar.Grammar`."""

    def __init__(
        self, start: LLMatcher, mask: bytes, *, field: str, vocab_size: int, masks: MaskThread
    ) -> None:
        """`start` and `mask` as `compile_constraint` returns them; `field` is to blame for what goes wrong later."""
        self._start = start
        self._mask = mask
        self._field = field
        self._vocab_size = vocab_size
        self._masks = masks

    def new_matcher(self, generated_ids: SequenceOf[int] = ()) -> _Matcher:
        matcher = _Matcher(
            self._start.deep_copy(),
            self._mask,
            field=self._field,
            vocab_size=self._vocab_size,
            masks=self._masks,
        )
        if generated_ids:
            matcher.replay(generated_ids)
        return matcher


@final
class _Matcher:
    """Implements `worker.engine.grammar.Matcher`."""

    def __init__(
        self, matcher: LLMatcher, mask: bytes, *, field: str, vocab_size: int, masks: MaskThread
    ) -> None:
        self._matcher = matcher
        """Used by one thread at a time: by the mask thread between `begin` and `_ready`."""
        self._mask = mask
        """A bit per id, lowest first."""
        self._field = field
        self._vocab_size = vocab_size
        self._masks = masks
        self._ready = threading.Event()
        self._ready.set()
        self._failed = ""

    def allows(self, token_id: int) -> bool:
        return bool(self._take()[token_id >> 3] >> (token_id & 7) & 1)

    def allowed(self) -> npt.NDArray[np.bool_]:
        packed = np.frombuffer(self._take(), np.uint8)
        return np.unpackbits(packed, count=self._vocab_size, bitorder="little").view(np.bool_)

    def advance(self, token_id: int) -> bool:
        self._take()
        if not self._matcher.consume_token(token_id):
            raise self._error(self._matcher.get_error())
        is_complete = self._matcher.is_stopped()
        self._begin()
        return is_complete

    def replay(self, generated_ids: SequenceOf[int]) -> None:
        """Takes ids that were drawn before."""
        if self._matcher.try_consume_tokens(list(generated_ids)) < len(generated_ids):
            raise InvalidRequest(
                "the tokens generated so far do not follow the constraint",
                reason=Reason.GRAMMAR_UNSATISFIABLE,
                field=self._field,
            )
        self._begin()

    def fill(self) -> None:
        """On the mask thread."""
        try:
            self._mask = self._matcher.compute_bitmask()
            if self._matcher.is_error():
                self._failed = self._matcher.get_error()
        except (
            BaseException
        ) as error:  # a panic of the library is no `Exception`; the engine must not wait for ever
            self._failed = f"llguidance failed: {error}"
        finally:
            self._ready.set()

    def _begin(self) -> None:
        self._ready.clear()
        self._masks.begin(self)

    def _take(self) -> bytes:
        self._ready.wait()
        if self._failed:
            raise self._error(self._failed)
        return self._mask

    def _error(self, said: str) -> InvalidRequest:
        refusal = refusal_of(said, keeps_lines=False)
        return InvalidRequest(
            f"in the middle of the answer the constraint could not be followed any further: {refusal.message}",
            reason=refusal.reason,
            field=self._field,
        )
