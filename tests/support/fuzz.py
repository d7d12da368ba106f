"""Random work for a real engine, step by step, with every promise checked after each step. Deterministic by seed.

    Fuzz(runner, alone, seed=7).play(10_000)

Requests come in waves, some too long, some with a deadline or little patience, some begun elsewhere; prompts share
beginnings, choices share prompts; readers read late, leave, or stop a choice because of what they read (as a stop
string does). Steps fail before and after they computed, logits are poisoned. Whatever happens:

- the books agree after each step (`SteppedEngine.check`), and the watching `FakeRunner` has seen no wrong batch;
- every choice that was accepted gets its events in order and exactly one end, for a reason that was really there;
- every token is the one that its request gets alone.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from common.errors import (
    Cancelled,
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    LeptonError,
    Overloaded,
    Reason,
)
from tests.support.fake_runner import VOCAB_SIZE, FakeRunner
from tests.support.manual_clock import ManualClock
from tests.support.stepped_engine import SteppedEngine, Token
from worker.engine.config import EngineConfig
from worker.engine.events import (
    EndEvent,
    Event,
    FailedEvent,
    ReplayedEvent,
    ScheduledEvent,
    TokenEvent,
)
from worker.engine.ports import Batch, CacheLayout, ModelRunner, Sampled
from worker.engine.request import EngineRequest
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import Sequence, StopRule
from worker.engine.stream import TokenStream

__all__ = ["Fuzz", "WatchedRunner"]

CONFIG = EngineConfig(
    chunk_tokens_min=4, chunk_tokens_first=24, chunk_tokens_max=48, overtaken_max=2,
    waiting_sequences_max=14, waiting_tokens_max=900, step_ms_max=40, preempt_after_s=0.1,
    lookup_streams_max=7, lookup_ngram=2,
)  # fmt: skip
REQUESTS = 48
"""Different ones; each comes many times, so that what each gets alone is computed once."""
STREAMS_MAX = 40

TokenFunction = Callable[[Sequence, int], int]
"""As `tokens` of a `FakeRunner`."""


class WatchedRunner:
    """A runner whose batches a strict `FakeRunner` executes as well; fails when told, and moves the clock."""

    def __init__(
        self,
        runner: ModelRunner | None,
        layout: CacheLayout,
        clock: ManualClock,
        tokens: TokenFunction | None = None,
    ) -> None:
        """Without a `runner` the fake one also answers, with `tokens`."""
        self._runner = runner
        self._clock = clock
        self.fake = FakeRunner(
            num_slots=layout.num_slots,
            capacity=layout.capacity,
            tokens_max=layout.tokens_max,
            num_blocks=layout.num_blocks,
            keeps_decoded=layout.keeps_decoded,
            num_drafted=layout.num_drafted,
            tokens=tokens,
        )
        self.step_s = 0.0
        self.fault: str = "none"
        """Of the next step: "before", "after" (it computed) or "poison"."""
        self.unexpected: list[Exception] = []
        self.num_accepted = 0
        """Tokens of drafts."""

    @property
    def layout(self) -> CacheLayout:
        """Of the fake; the other one has at least as much."""
        return self.fake.layout

    def run(self, batch: Batch) -> list[Sampled]:
        self._clock.advance(self.step_s)
        fault, self.fault = self.fault, "none"
        if fault == "before":
            self.fake.fail_next(_Scripted())
        try:
            sampled = self.fake.run(batch)
            if self._runner is not None:
                sampled = self._runner.run(batch)
                self.fake.settle(batch, sampled)
        except _Scripted:
            raise
        except Exception as error:
            self.unexpected.append(error)
            raise
        finally:
            self.fake.batches.clear()
        if fault == "after":
            raise _Scripted
        self.num_accepted += len(sampled) - len(batch.drawing)
        if fault == "poison":
            broken = {one.sequence for one in sampled if one.sequence.id % 3}
            sampled = [one for one in sampled if one.sequence not in broken]
            sampled += [Sampled(sequence=sequence, token_id=None) for sequence in broken]
        return sampled

    def rest(self) -> None:
        self.fake.rest()
        if self._runner is not None:
            self._runner.rest()

    def release(self, sequence: Sequence) -> None:
        self.fake.release(sequence)
        if self._runner is not None:
            self._runner.release(sequence)


class _Scripted(RuntimeError):
    """A failure that was asked for."""


@dataclass(slots=True, eq=False)
class _Reader:
    """One accepted request and what its caller has seen and done."""

    number: int
    """Of the request, among the different ones."""
    request: EngineRequest
    stream: TokenStream
    is_slow: bool
    stops_at: int | None
    """Leaves a choice when it reads a token below that."""
    events: dict[int, list[Event]] = field(default_factory=dict)
    left: set[int] = field(default_factory=set)
    """Choices that it aborted."""


class Fuzz:
    """See the module."""

    def __init__(
        self,
        runner: ModelRunner | None,
        alone: Callable[[EngineRequest], list[list[Token]]],
        *,
        seed: int,
        layout: CacheLayout,
        eos_ids: frozenset[int] = frozenset({2, 5, 9}),
        tokens: TokenFunction | None = None,
    ) -> None:
        """`alone`: what each choice of a request gets from an engine that has nobody else. `tokens` is for the fake."""
        self._seed = seed
        self._rng = random.Random(seed)
        self._clock = ManualClock()
        self._alone = alone
        self._known: dict[int, list[list[Token]]] = {}
        self._runner = WatchedRunner(runner, layout, self._clock, tokens)
        self._engine = SteppedEngine(self._runner, CONFIG, self._clock)
        self._layout = layout
        self._requests = [_request(self._rng, layout, eos_ids) for _ in range(REQUESTS)]
        self._readers: list[_Reader] = []
        self._wave = 0.0
        self._faults = 0
        self.seen: Counter[str] = Counter()
        """What happened how often: a mix that never refuses or fails proves little."""

    @property
    def num_accepted(self) -> int:
        """Tokens of drafts that stood."""
        return self._runner.num_accepted

    def play(self, num_steps: int) -> None:
        """Takes so many steps, then lets everybody finish. Failures say where and with which seed."""
        try:
            self._play(num_steps)
        except BaseException as failure:
            failure.add_note(
                f"step {self.seen['steps']} of {num_steps}; once more: LEPTON_FUZZ_SEED={self._seed} "
                f"LEPTON_FUZZ_STEPS={num_steps} .venv/bin/pytest tests/property/test_engine_fuzz.py"
            )
            raise

    def _play(self, num_steps: int) -> None:
        for number in range(num_steps):
            self._arrive()
            self._leave()
            self._step()
            self._read(everything=number % 7 == 0)
        # A step moves the first prompt by 2 tokens at least and each row by one.
        bound = sum(
            r.request.n * (len(r.request.prompt_ids) + r.request.stop.max_tokens)
            for r in self._readers
        )
        for _ in range(bound + 1):
            if self._engine.is_idle and not self._engine.loop._mailbox._letters:
                break
            self._step()
        assert self._engine.is_idle, "somebody never ended"
        self._read(everything=True)
        assert not self._readers
        assert not self._engine.loop._streams

    def _arrive(self) -> None:
        rng = self._rng
        if rng.random() < 0.02:
            self._wave = rng.choice((0.05, 0.2, 0.5, 2.5))
        arrivals = int(self._wave) + (rng.random() < self._wave % 1)
        for _ in range(min(arrivals, STREAMS_MAX - len(self._readers))):
            self._submit()

    def _submit(self) -> None:
        rng, now = self._rng, self._clock.now()
        number = rng.randrange(REQUESTS)
        request = replace(
            self._requests[number],
            priority=rng.choice((1, 2, 2, 3)),
            deadline=now + rng.uniform(0, 2) if rng.random() < 0.15 else None,
            start_by=now + rng.choice((0, 0.1, 0.5)) if rng.random() < 0.15 else None,
        )
        if rng.random() < 0.03:
            longer = self._layout.capacity - len(request.prompt_ids) + 1
            request = replace(request, stop=replace(request.stop, max_tokens=longer))
        if rng.random() < 0.1:
            request = replace(request, known_ids=self._cut(number) or None)
        fits = len(request.prompt_ids) + request.stop.max_tokens <= self._layout.capacity
        try:
            stream = self._engine.submit(request)
        except InvalidRequest as error:
            assert error.reason is Reason.PROMPT_TOO_LONG
            assert not fits
            self.seen["too long"] += 1
            return
        except Overloaded as error:
            assert error.reason is Reason.QUEUE_FULL
            assert not request.is_continued
            assert error.retry_after_s
            self.seen["queue full"] += 1
            return
        assert fits
        self._readers.append(
            _Reader(
                number=number,
                request=request,
                stream=stream,
                is_slow=rng.random() < 0.2,
                stops_at=rng.choice((None, None, None, 8, 40)),
                events={choice: [] for choice in request.choices},
            )
        )

    def _cut(self, number: int) -> dict[int, tuple[int, ...]]:
        """As if another worker had come so far with each choice; those that came to their end are left out."""
        cuts: dict[int, tuple[int, ...]] = {}
        for choice, tokens in enumerate(self._alone_tokens(number)):
            size = self._rng.randint(0, len(tokens))
            if size < len(tokens):
                cuts[choice] = tuple(token_id for token_id, _ in tokens[:size])
        return cuts

    def _leave(self) -> None:
        if self._readers and self._rng.random() < 0.08:
            # Often one that has just come: what happens in the middle of a prompt is the hard part.
            reader = self._rng.choice(self._readers[-3:])
            choice = self._rng.choice((None, 0, self._rng.randrange(reader.request.n)))
            reader.left |= set(reader.events) if choice is None else {choice}
            self._engine.abort(reader.stream, choice)

    def _step(self) -> None:
        draw = self._rng.random()
        self._runner.step_s = self._rng.choice((0.001, 0.004, 0.02, 0.06))
        self._runner.fault = (
            "before" if draw < 0.008 else "after" if draw < 0.012 else "poison" if draw < 0.018 else "none"
        )  # fmt: skip
        self._engine.step()
        assert not self._runner.fake.violations, self._runner.fake.violations
        assert not self._runner.unexpected, self._runner.unexpected
        self.seen["steps"] += 1
        scheduler = self._engine.loop._scheduler
        self.seen["rows"] += scheduler.num_running
        self.seen["preempted"] += sum(s.num_preemptions > 0 for s in scheduler._slots.occupants)

    def _read(self, *, everything: bool) -> None:
        for reader in list(self._readers):
            if reader.is_slow and not everything:
                continue
            for event in self._engine.read(reader.stream):
                self._take(reader, event)
            if reader.stream.has_ended:
                self._readers.remove(reader)
                for choice, events in reader.events.items():
                    self._check_story(reader, choice, events)

    def _take(self, reader: _Reader, event: Event) -> None:
        events = reader.events[event.choice]
        assert not (events and isinstance(events[-1], EndEvent | FailedEvent)), "after the end"
        events.append(event)
        if (
            isinstance(event, TokenEvent)
            and reader.stops_at is not None
            and event.token_id < reader.stops_at
        ):
            reader.left.add(event.choice)
            self._engine.abort(reader.stream, event.choice)

    def _check_story(self, reader: _Reader, choice: int, events: list[Event]) -> None:
        *before, end = events
        tokens = [(e.token_id, e.logprob) for e in before if isinstance(e, TokenEvent)]
        scheduled = [e for e in before if isinstance(e, ScheduledEvent)]
        replayed = [e for e in before if isinstance(e, ReplayedEvent)]
        known = (reader.request.known_ids or {}).get(choice, ())
        assert len(scheduled) + len(replayed) + len(tokens) == len(before)
        assert all(e.num_mismatches == 0 for e in replayed), "company changed a draw of the replay"
        redraws = bool(known) and not self._layout.keeps_decoded
        assert len(replayed) == redraws or not tokens
        self.seen["known tokens"] += len(known) * bool(tokens)
        assert scheduled == before[:1], "scheduled once and first, or never"
        self.seen["cached tokens"] += sum(e.num_cached_tokens for e in scheduled)
        alone = self._alone_tokens(reader.number)[choice][len(known) :]
        assert tokens == alone[: len(tokens)], f"company changed choice {choice} of {reader}"
        if isinstance(end, EndEvent):
            assert tokens == alone
            self.seen[end.reason.name.lower()] += 1
            return
        assert isinstance(end, FailedEvent)
        self.seen[_name(end.error)] += 1
        match end.error:
            case Cancelled():
                assert choice in reader.left
            case DeadlineExceeded():
                assert reader.request.deadline is not None
                assert reader.request.deadline <= end.at
            case Overloaded(reason=Reason.QUEUE_TIMEOUT):
                assert reader.request.start_by is not None
                assert reader.request.start_by <= end.at
                assert not scheduled
                assert not reader.request.is_continued
            case Internal(reason=Reason.ENGINE_FAILED | Reason.MODEL_OUTPUT_INVALID):
                pass  # those that nobody asked for are in `unexpected`
            case other:
                raise AssertionError(f"a reason that was never there: {other!r}")

    def _alone_tokens(self, number: int) -> list[list[Token]]:
        if number not in self._known:
            self._known[number] = self._alone(self._requests[number])
        return self._known[number]


def _name(error: LeptonError) -> str:
    return error.reason.value.lower()


def _request(rng: random.Random, layout: CacheLayout, eos_ids: frozenset[int]) -> EngineRequest:
    beginning = rng.choice((None, 0, 1, 2))
    size = rng.choice((1, 2, 3, 16, 17, 33, 34, 64, 65, 66, 90, rng.randint(1, 100)))
    shared = 0 if beginning is None else rng.choice((size // 2, size * 3 // 4, size))
    prompt = [
        (71 * (beginning or 0) + 13 * at) % VOCAB_SIZE if at < shared else rng.randrange(VOCAB_SIZE)
        for at in range(size)
    ]
    max_tokens = rng.randint(1, min(24, layout.capacity - size))
    return EngineRequest(
        prompt_ids=tuple(prompt),
        sampling=rng.choice(
            (
                SamplingParams(),
                SamplingParams(logprobs=2),
                SamplingParams(temperature=0.9, top_p=0.9, seed=rng.getrandbits(64), logprobs=0),
                SamplingParams(temperature=1.2, top_k=20, min_p=0.01, seed=3),
                SamplingParams(frequency_penalty=0.7, repetition_penalty=1.2, logprobs=1),
            )
        ),
        stop=StopRule(
            max_tokens=max_tokens,
            min_tokens=rng.randint(0, min(3, max_tokens)),
            eos_ids=rng.choice((frozenset(), eos_ids)),
            stop_ids=rng.choice((frozenset(), frozenset({40, 41}))),
        ),
        n=rng.choice((1, 1, 1, 2, 3, 5)),
        salt=rng.choice((b"", b"", b"a", None)),
    )
