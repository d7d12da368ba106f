"""The text of one choice: ids in, pieces of text with their ids out. No I/O.

An id leaves only together with the text that it releases: ids whose text is still part of an unfinished character, or
might be the start of a stop string, wait. So whoever has the ids that were sent can rebuild everything else (`resume`).
An id that stands for no text at all (a control token) waits for nothing but its turn.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import final

from common.errors import InvalidRequest, Reason
from worker.engine.sequence import FinishReason
from worker.tasks.api import ChoiceEnd, ContinuedChoice, Piece, TokenLogprobs
from worker.tasks.ports import Detokenizer
from worker.tasks.stop_strings import StopMatch, StopMatcher

__all__ = ["ChoiceText"]


@dataclass(frozen=True, slots=True)
class _HeldToken:
    token_id: int
    logprobs: TokenLogprobs | None
    start: int
    """Characters of the completion before it."""
    end: int
    """Characters of the completion with it."""
    is_inside_character: bool
    """Whether it leaves a character unfinished."""


@final
class ChoiceText:
    """One choice from its first token to its end. After the end it takes nothing more."""

    def __init__(
        self, choice: int, detokenizer: Detokenizer, matcher: StopMatcher, *, min_tokens: int
    ) -> None:
        self._choice = choice
        self._detokenizer = detokenizer
        self._matcher = matcher
        self._min_tokens = min_tokens
        self._held: deque[_HeldToken] = deque()
        self._text = ""
        """Text that was not released; begins `_num_released` characters into the completion."""
        self._num_released = 0
        self._end: ChoiceEnd | None = None
        self._end_told = False
        self.num_tokens = 0
        """Tokens taken, end-of-sequence tokens included."""
        self.last_token_at: float | None = None
        """Kept for whoever measures; nothing here depends on it."""

    @property
    def end(self) -> ChoiceEnd | None:
        """How the choice ended; None while it goes on."""
        return self._end

    def resume(self, sent: ContinuedChoice) -> None:
        """Goes on behind what another worker sent; before anything else. All of it was released there, so it was here.

        Raises `InvalidRequest(FIELDS_CONTRADICT)` when a stop string ended the choice on the way.
        """
        if sent.end is not None:
            self.num_tokens = len(sent.token_ids)
            self._end, self._end_told = sent.end, True
            return
        for token_id in sent.token_ids:
            self.num_tokens += 1
            match = self._take_text(self._detokenizer.push(token_id))
            if match is not None:
                raise InvalidRequest(
                    f"the stop string {match.string!r} ends choice {self._choice}, which goes on all the same",
                    reason=Reason.FIELDS_CONTRADICT,
                    field=f"continuation.choices[{self._choice}].token_ids",
                )
        self._num_released, self._text = len(self._text), ""

    def push(self, token_id: int, logprobs: TokenLogprobs | None, *, is_end: bool) -> bool:
        """Takes the next token and says whether it completed a stop string, which ends the choice.

        `is_end` marks a token by which the engine ended the choice (end of sequence, stop id): it has no text.
        """
        self.num_tokens += 1
        start = self._num_released + len(self._text)
        match = None if is_end else self._take_text(self._detokenizer.push(token_id))
        end = self._num_released + len(self._text)
        inside = self._detokenizer.is_inside_character
        self._held.append(_HeldToken(token_id, logprobs, start, end, inside))
        return self._stop(match)

    def finish(self, end: ChoiceEnd) -> None:
        """The engine ended the choice. What was held becomes free, unless it completes a stop string."""
        if self._end is None and not self._stop(self._take_text(self._detokenizer.flush())):
            self._end = end

    def take(self) -> Piece | None:
        """Everything that is free and was not taken yet; None when that is nothing."""
        if self._end_told:
            return None
        num_tokens = len(self._held) if self._end else self._num_free_tokens()
        if not num_tokens and not self._end:
            return None
        taken = [self._held.popleft() for _ in range(num_tokens)]
        length = len(self._text) if self._end else taken[-1].end - self._num_released
        text, self._text = self._text[:length], self._text[length:]
        self._num_released += length
        self._end_told = self._end is not None
        return Piece(
            choice=self._choice,
            text=text,
            token_ids=tuple(token.token_id for token in taken),
            logprobs=tuple(token.logprobs for token in taken if token.logprobs is not None),
            end=self._end,
        )

    def _take_text(self, text: str) -> StopMatch | None:
        self._text += text
        return self._matcher.push(text, armed=self.num_tokens >= self._min_tokens)

    def _stop(self, match: StopMatch | None) -> bool:
        if match is None:
            return False
        # Text that another worker has released stays, should a match begin in it; with the same tokens none does.
        self._text = self._text[: max(0, match.start - self._num_released)]
        self._end = ChoiceEnd(reason=FinishReason.STOP, stop_string=match.string)
        return True

    def _num_free_tokens(self) -> int:
        """How many held tokens, from the first, may go.

        Up to the last one, of those that no match can reach, that completed something or left nothing unfinished.
        """
        num_free_characters = self._matcher.num_free
        num_tokens = 0
        for index, token in enumerate(self._held, start=1):
            if token.end > num_free_characters:
                break
            if token.end > token.start or not token.is_inside_character:
                num_tokens = index
        return num_tokens
