"""Text generation: compile the constraint, tokenise, submit, detokenise, stop strings, usage."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import final

from common.clock import Clock
from common.errors import Internal, Reason
from worker.engine.events import (
    EndEvent,
    Event,
    FailedEvent,
    ReplayedEvent,
    ScheduledEvent,
    TokenEvent,
)
from worker.engine.grammar import Grammar
from worker.engine.loop import EngineLoop, TokenStream
from worker.engine.request import EngineRequest
from worker.engine.sequence import StopRule
from worker.tasks.api import (
    Begun,
    ChoiceEnd,
    Continuation,
    Done,
    GenerateRequest,
    ModelFacts,
    Output,
    Resumed,
    Timeline,
    TokenLogprobs,
)
from worker.tasks.choice import ChoiceText
from worker.tasks.continuation import check_continuation, known_ids_of
from worker.tasks.lengths import max_tokens_of
from worker.tasks.marks import marks_of
from worker.tasks.ports import GrammarCompiler
from worker.tasks.stop_strings import StopStrings
from worker.tasks.tokenizer_pool import TokenizerPool

__all__ = ["GenerateTask"]


@final
class GenerateTask:
    """Serves `InferenceService.Generate`."""

    def __init__(
        self,
        *,
        model: ModelFacts,
        tokenizers: TokenizerPool,
        grammars: GrammarCompiler,
        engine: EngineLoop,
        clock: Clock,
    ) -> None:
        self._model = model
        self._tokenizers = tokenizers
        self._grammars = grammars
        self._engine = engine
        self._clock = clock

    async def run(
        self, request: GenerateRequest, timeline: Timeline
    ) -> AsyncGenerator[tuple[Output, ...], None]:
        """See `worker.tasks.api.Task`.

        The outputs of one engine step, or of several when the reader is slow, come as one tuple. `Begun` or `Resumed`
        comes with the first piece, not before: until a token is there, whoever relays the stream may still give it to
        another worker. A request with a continuation was accepted before, so no full queue refuses it.
        """
        continuation = request.continuation
        if continuation is None:
            self._engine.check_room(n=request.n)
        elif continuation.has_ended:
            choices, counts = self._choices(request), _Counts.of(continuation)
            yield counts.opening(), _done(choices, counts)
            return
        grammar = await self._grammar(request, timeline)
        prompt_ids = await self._tokenizers.prompt_ids(
            request.prompt, is_bounded=continuation is None
        )
        engine_request = self._engine_request(request, prompt_ids, grammar)
        if continuation is None:
            choices, counts = self._choices(request), _Counts(len(prompt_ids))
        else:
            # On a thread: thousands of tokens are followed again.
            choices = await self._tokenizers.run(lambda: self._choices(request), is_bounded=False)
            counts = _Counts.of(continuation)
        timeline.tokenized_at = self._clock.now()
        stream = self._engine.submit(engine_request)
        # Not asked of the clock again: the engine may have begun before `submit` returned.
        timeline.submitted_at = timeline.tokenized_at
        try:
            has_begun = False
            while not all(choice.end for choice in choices):
                events = await stream.next()
                counts.note(events)
                self._take(events, request, choices, stream, timeline)
                outputs: list[Output] = [
                    piece for choice in choices if (piece := choice.take()) is not None
                ]
                if all(choice.end for choice in choices):
                    outputs.append(_done(choices, counts))
                if outputs and not has_begun:
                    has_begun = True
                    outputs.insert(0, counts.opening())
                if outputs:
                    yield tuple(outputs)
        finally:
            self._engine.abort(stream)

    async def _grammar(self, request: GenerateRequest, timeline: Timeline) -> Grammar | None:
        if request.constraint is None:
            return None
        began_at = self._clock.now()
        try:
            grammar, timeline.grammar_was_known = await self._grammars.compile(
                request.constraint, is_bounded=request.continuation is None
            )
        finally:
            timeline.grammar_s = self._clock.now() - began_at
        return grammar

    def _engine_request(
        self, request: GenerateRequest, prompt_ids: tuple[int, ...], grammar: Grammar | None
    ) -> EngineRequest:
        max_tokens = max_tokens_of(
            num_prompt_tokens=len(prompt_ids),
            context_length=self._model.context_length,
            asked=request.max_tokens,
            default=request.max_tokens_default,
            min_tokens=request.min_tokens,
        )
        stop = StopRule(
            max_tokens=max_tokens,
            min_tokens=request.min_tokens,
            eos_ids=frozenset() if request.ignore_eos else self._model.eos_ids,
            stop_ids=request.stop_ids,
        )
        continuation = request.continuation
        if continuation is not None:
            check_continuation(continuation, num_prompt_tokens=len(prompt_ids), stop=stop)
        return EngineRequest(
            prompt_ids=prompt_ids,
            sampling=request.sampling,
            stop=stop,
            grammar=grammar,
            n=request.n,
            salt=request.salt,
            marks=marks_of(request.prefix, len(prompt_ids)),
            priority=request.priority,
            deadline=request.deadline,
            start_by=request.start_by,
            known_ids=None if continuation is None else known_ids_of(continuation),
        )

    def _choices(self, request: GenerateRequest) -> tuple[ChoiceText, ...]:
        """Where each choice stands: at its beginning, or behind what another worker sent."""
        stops = StopStrings(request.stop_strings)
        choices = tuple(
            ChoiceText(
                index,
                self._tokenizers.tokenizer.new_detokenizer(
                    keeps_first_space=request.constraint is not None
                ),
                stops.new_matcher(),
                min_tokens=request.min_tokens,
            )
            for index in range(request.n)
        )
        if request.continuation is not None:
            for choice, sent in zip(choices, request.continuation.choices, strict=True):
                choice.resume(sent)
        return choices

    def _take(
        self,
        events: Sequence[Event],
        request: GenerateRequest,
        choices: Sequence[ChoiceText],
        stream: TokenStream,
        timeline: Timeline,
    ) -> None:
        """Hands each event to its choice; a choice whose stop string is complete is aborted in the engine."""
        if not events:
            raise Internal(
                "the engine ended a request without saying how", reason=Reason.ENGINE_FAILED
            )
        end_tokens = _end_tokens(events)
        for event in events:
            choice = choices[event.choice]
            match event:
                case ScheduledEvent():
                    timeline.scheduled_at = timeline.scheduled_at or event.at
                case ReplayedEvent():
                    timeline.num_replay_mismatches += event.num_mismatches
                case TokenEvent() if choice.end is None:
                    _note_token(timeline, choice, event.at)
                    if choice.push(
                        event.token_id,
                        _logprobs(event),
                        is_end=event is end_tokens.get(event.choice),
                    ):
                        self._engine.abort(stream, event.choice)
                case EndEvent():
                    told = event.stop_token_id if event.stop_token_id in request.stop_ids else None
                    choice.finish(ChoiceEnd(reason=event.reason, stop_token_id=told))
                case FailedEvent() if choice.end is None:
                    raise event.error


@dataclass(slots=True)
class _Counts:
    """How long the prompt is, and how much of it was known to the worker that began the stream."""

    tokens: int
    cached: int = 0
    continuation: Continuation | None = None

    @classmethod
    def of(cls, continuation: Continuation) -> _Counts:
        return cls(continuation.num_prompt_tokens, continuation.num_cached_tokens, continuation)

    def note(self, events: Sequence[Event]) -> None:
        if self.continuation is not None:
            return
        for event in events:
            if isinstance(event, ScheduledEvent) and event.choice == 0:
                self.cached = event.num_cached_tokens

    def opening(self) -> Begun | Resumed:
        """The first output."""
        if self.continuation is None:
            return Begun(num_prompt_tokens=self.tokens, num_cached_tokens=self.cached)
        return Resumed(
            from_worker_id=self.continuation.from_worker_id,
            num_replayed_tokens=self.continuation.num_replayed_tokens,
        )


def _note_token(timeline: Timeline, choice: ChoiceText, at: float) -> None:
    timeline.first_token_at = timeline.first_token_at or at
    timeline.last_token_at = at
    if choice.last_token_at is not None:
        timeline.token_gaps_s.append(at - choice.last_token_at)
    choice.last_token_at = at


def _end_tokens(events: Sequence[Event]) -> dict[int, TokenEvent]:
    """Per choice that a token without text ended, that token: the last before the end, published with it."""
    last: dict[int, TokenEvent] = {}
    for event in events:
        if isinstance(event, TokenEvent):
            last[event.choice] = event
    stopped = {
        event.choice
        for event in events
        if isinstance(event, EndEvent) and event.stop_token_id is not None
    }
    return {choice: event for choice, event in last.items() if choice in stopped}


def _logprobs(event: TokenEvent) -> TokenLogprobs | None:
    if event.logprob is None:
        return None
    return TokenLogprobs(token_id=event.token_id, logprob=event.logprob, top=event.top)


def _done(choices: Sequence[ChoiceText], counts: _Counts) -> Done:
    return Done(
        num_prompt_tokens=counts.tokens,
        num_cached_tokens=counts.cached,
        num_completion_tokens=sum(choice.num_tokens for choice in choices),
        ends=tuple(choice.end for choice in choices if choice.end is not None),
    )
