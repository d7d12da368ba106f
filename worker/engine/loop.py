"""The engine thread: collect letters, schedule, run, update, publish; one hand-off per step.

    event loop                                   engine thread
    ──────────                                   ─────────────
    submit, abort ──> mailbox ─────────────────> step()
    TokenStream   <── call_soon_threadsafe <──── events of all streams, once per step
    load()        <── mailbox (a report) <────── before and after each run

The event loop owns the streams and alone decides that a choice has ended, so a choice ends once, whatever the thread
does. The engine thread owns the scheduler and the sequences.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Mapping
from typing import final

from common.clock import Clock
from common.errors import Internal, LeptonError, Reason, Unavailable
from common.logs import get_logger
from worker.engine.answers import check_answer
from worker.engine.config import EngineConfig
from worker.engine.events import Event, TokenEvent, is_terminal
from worker.engine.hand_over import HandOver
from worker.engine.intake import check_fits, sequences_of
from worker.engine.load import EngineLoad
from worker.engine.mailbox import Abort, Arrival, Mailbox, Report
from worker.engine.observer import StepObserver
from worker.engine.ports import Batch, ModelRunner, Sampled
from worker.engine.prefix_digest import PrefixDigest
from worker.engine.queue import Waiting
from worker.engine.request import EngineRequest
from worker.engine.scheduler import Scheduler, SequenceEvent
from worker.engine.sequence import Sequence
from worker.engine.stream import TokenStream

__all__ = ["EngineLoad", "EngineLoop", "TokenStream"]

log = get_logger(__name__)


@final
class EngineLoop:
    """One engine: a thread, a scheduler, a runner.

    `start`, `check_room`, `submit`, `abort`, `drain`, `drained` and `stop` are called on one event loop; `load` and
    `healthy` anywhere. `check_room`, `submit` and `abort` never block.
    """

    def __init__(
        self,
        runner: ModelRunner,
        config: EngineConfig,
        clock: Clock,
        *,
        observer: StepObserver | None = None,
    ) -> None:
        self._runner = runner
        self._config = config
        self._clock = clock
        self._observer = observer
        self._layout = runner.layout
        self._mailbox = Mailbox(config)
        self._thread = threading.Thread(target=self._main, name="lepton-engine", daemon=True)
        # Owned by the event loop.
        self._to_event_loop = HandOver()
        self._refusal: Callable[[], LeptonError] | None = _starting
        """Makes the error that `submit` raises; None while requests are taken."""
        self._ids = itertools.count(1)
        self._streams: set[TokenStream] = set()
        """Those with an open choice."""
        self._no_streams = asyncio.Event()
        self._no_streams.set()
        # Owned by the engine thread; others may read the counters and the flag.
        self._scheduler = Scheduler(config, self._layout)
        self._stream_of: dict[int, TokenStream] = {}
        """Sequence id → its reader; only sequences that have not ended."""
        self._num_steps = 0
        self._num_failed_steps = 0
        """In a row."""
        self._has_crashed = False
        self._step_ends_at: float | None = None

    def __repr__(self) -> str:
        return f"<EngineLoop steps={self._num_steps} streams={len(self._streams)} healthy={self.healthy}>"

    @property
    def healthy(self) -> bool:
        """Whether the thread lives, steps succeed and the running one is not stuck.

        A worker whose engine is not healthy should leave the registry and end.
        """
        return (
            self._thread.is_alive()
            and not self._has_crashed
            and self._num_failed_steps < self._config.failed_steps_max
            and not self._is_stuck()
        )

    def start(self) -> None:
        """Starts the thread. Called once, on the event loop that will read the streams."""
        self._to_event_loop.open()
        self._refusal = None
        self._thread.start()

    def check_room(self, *, n: int) -> None:
        """Raises what `submit` would raise now for `n` choices of the shortest prompt.

        For whoever still has to make the prompt: a full queue is told before any work is put into it.
        """
        if self._refusal is not None:
            raise self._refusal()
        self._mailbox.check_room(Waiting(sequences=n, tokens=n))

    def submit(self, request: EngineRequest) -> TokenStream:
        """Takes a request in; its events come through the stream, beginning with the next step.

        *Resources*: who stops reading before the end calls `abort`.
        *Errors*: `Overloaded(QUEUE_FULL)` with a retry hint; `Unavailable(DRAINING)` after `drain` or `stop`,
        `(STARTING)` before `start`; `Internal(ENGINE_FAILED)` after a crash; `InvalidRequest` when prompt + max_tokens
        do not fit into a slot, or what is known leaves nothing to draw (the edge has checked that, with better
        messages).
        """
        if self._refusal is not None:
            raise self._refusal()
        check_fits(request, self._layout)
        now = self._clock.now()
        sequences = sequences_of(request, self._layout, ids=self._ids, now=now)
        stream = TokenStream(sequences)
        self._mailbox.offer(Arrival(stream, sequences, is_continued=request.is_continued))
        self._streams.add(stream)
        self._no_streams.clear()
        return stream

    def abort(self, stream: TokenStream, choice: int | None = None) -> None:
        """Stops one choice, or all, before the next step; each ends in `FailedEvent(Cancelled)` unless it has ended."""
        aborts = [Abort(sequence) for sequence in stream.take_abortable(choice)]
        if aborts:
            self._mailbox.post(aborts)

    def load(self) -> EngineLoad:
        """How busy the engine is now."""
        report = self._mailbox.report
        ends_in_ms = None
        if report.step_ends_at is not None:
            ends_in_ms = max(0, round(1000 * (report.step_ends_at - self._clock.now())))
        return EngineLoad(
            step=report.step,
            step_ends_in_ms=ends_in_ms,
            running=report.running,
            waiting=report.waiting.sequences,
            rows_max=self._layout.num_slots,
            waiting_tokens=report.waiting.tokens,
            kv_usage=report.kv_usage,
            speed=report.speed,
        )

    @property
    def prefixes(self) -> PrefixDigest:
        """Which beginnings of prompts are cached; any thread."""
        return self._scheduler.digest

    def drain(self) -> None:
        """Refuses what is new with DRAINING and finishes what it has."""
        if self._refusal is None:
            self._refusal = _draining

    async def drained(self) -> None:
        """Returns when every stream has ended (read or not). Cancellation changes nothing."""
        await self._no_streams.wait()

    async def stop(self) -> None:
        """Ends the thread after the running step; what is unfinished fails with `Unavailable(DRAINING)`.

        A thread that does not come back within `stop_s_max` is left behind (it is a daemon); the streams end all the
        same. Calling it again, or before `start`, is harmless.
        """
        self.drain()
        self._mailbox.close()
        try:
            if self._thread.ident is not None:
                await asyncio.to_thread(self._thread.join, self._config.stop_s_max)
                if self._thread.is_alive():
                    log.error(
                        "engine.stuck", step=self._num_steps, waited_s=self._config.stop_s_max
                    )
        finally:
            # Events of the last step were handed over before the thread ended: they have been delivered by now.
            self._fail_streams(_draining)

    # --- the engine thread ---

    def step(self) -> None:
        """One turn. Aborts and deadlines are honoured here, between two runs."""
        events = self._collect()
        events += self._scheduler.expire(self._clock.now())
        batch = self._scheduler.schedule(self._clock.now())
        self._note_preempted()
        events += self._scheduler.refuse_late(self._clock.now())
        if batch is not None:
            events += self._run(batch)
        self._publish(events)
        if any(s.is_continued and _is_first(s, event) for s, event in events):
            self._mailbox.linger(self._config.linger_ms / 1000)

    def _main(self) -> None:
        try:
            has_rested = True  # nothing has been written yet
            while self._mailbox.wait(
                idle=(idle := self._is_idle()),
                timeout_s=None if has_rested else self._config.rest_after_s,
            ):
                has_rested = idle and self._mailbox.is_empty
                if has_rested:
                    self._rest()
                else:
                    self.step()
        except BaseException:
            # Nobody above would see it, and readers would wait for ever.
            log.exception("engine.crashed", step=self._num_steps)
            self._has_crashed = True
            self._hand_over(self._after_crash)

    def _rest(self) -> None:
        try:
            self._runner.rest()
        except Exception:
            log.exception("engine.rest_failed")

    def _is_idle(self) -> bool:
        if not self._scheduler.is_idle:
            return False
        self._scheduler.check_integrity()
        return True

    def _collect(self) -> list[SequenceEvent]:
        events: list[SequenceEvent] = []
        for letter in self._mailbox.collect():
            match letter:
                case Arrival(stream, sequences):
                    for sequence in sequences:
                        self._stream_of[sequence.id] = stream
                        self._scheduler.add(sequence)
                case Abort(sequence):
                    events += self._scheduler.abort(sequence, self._clock.now())
        return events

    def _run(self, batch: Batch) -> list[SequenceEvent]:
        began_at = self._clock.now()
        self._report(step_ends_at=self._expected_end(batch, began_at))
        sampled = self._compute(batch)
        ended_at = self._clock.now()
        self._num_steps += 1
        self._observe(batch, sampled, ended_at - began_at)
        if sampled is None:
            return self._scheduler.fail(ended_at)
        self._scheduler.observe(batch, ended_at - began_at)
        return self._scheduler.update(batch, sampled, ended_at)

    def _compute(self, batch: Batch) -> list[Sampled] | None:
        """The runner's answer; None when it failed, which concerns this batch alone."""
        try:
            sampled = self._runner.run(batch)
            check_answer(batch, sampled)
        except Exception:
            self._num_failed_steps += 1
            log.exception(
                "engine.step_failed", step=self._num_steps, failed_in_a_row=self._num_failed_steps
            )
            return None
        self._num_failed_steps = 0
        return sampled

    def _expected_end(self, batch: Batch, began_at: float) -> float:
        expected_s = self._scheduler.meter.step_s(
            num_prefill_tokens=batch.num_prefill_tokens,
            decoding=batch.decoding,
            num_drafted=batch.num_drafted,
        )
        return began_at + (self._config.step_ms_max / 1000 if expected_s is None else expected_s)

    def _observe(self, batch: Batch, sampled: list[Sampled] | None, duration_s: float) -> None:
        if self._observer is None:
            return
        try:
            self._observer.on_step(
                duration_s=duration_s,
                num_prefill_tokens=batch.num_prefill_tokens,
                num_decode_rows=len(batch.decode),
            )
            if batch.drafts and sampled is not None:
                self._observer.on_drafts(
                    num_drafted=batch.num_drafted, num_accepted=len(sampled) - len(batch.drawing)
                )
        except Exception:
            log.exception("engine.observer_failed")

    def _publish(self, events: list[SequenceEvent]) -> None:
        """Says what happened: first the report, so that who reads an end finds its slot free, then all events."""
        self._report(step_ends_at=None if self._scheduler.is_idle else self._step_ends_at)
        by_stream: dict[TokenStream, list[Event]] = {}
        for sequence, event in events:
            by_stream.setdefault(self._stream_of[sequence.id], []).append(event)
            if is_terminal(event):
                del self._stream_of[sequence.id]
                if sequence.scheduled_at is not None:
                    self._release(sequence)
        if by_stream:
            has_first = any(_is_first(sequence, event) for sequence, event in events)
            wait_s = self._config.first_token_ms / 1000 if has_first else 0.0
            self._hand_over(lambda: self._deliver(by_stream), wait_s=wait_s)

    def _note_preempted(self) -> None:
        for sequence in self._scheduler.take_preempted():
            self._release(sequence)
            try:
                if self._observer is not None:
                    self._observer.on_preemption()
            except Exception:
                log.exception("engine.observer_failed")

    def _release(self, sequence: Sequence) -> None:
        try:
            self._runner.release(sequence)
        except Exception:
            log.exception("engine.release_failed", sequence=sequence.id)

    def _report(self, *, step_ends_at: float | None) -> None:
        self._step_ends_at = step_ends_at
        self._mailbox.publish(
            Report(
                step=self._num_steps,
                step_ends_at=step_ends_at,
                running=self._scheduler.num_running,
                waiting=self._scheduler.waiting,
                kv_usage=self._scheduler.kv_usage,
                speed=self._scheduler.meter.speed,
            )
        )

    def _hand_over(self, callback: Callable[[], None], *, wait_s: float = 0.0) -> None:
        try:
            self._to_event_loop.give(callback, wait_s=wait_s)
        except RuntimeError:
            # The event loop is closed: nobody listens any more, so there is nothing left to compute for.
            log.warning("engine.event_loop_closed")
            self._mailbox.close()

    # --- on the event loop again ---

    def _deliver(self, by_stream: Mapping[TokenStream, list[Event]]) -> None:
        for stream, events in by_stream.items():
            stream.push(events)
            if stream.has_ended:
                self._streams.discard(stream)
        if not self._streams:
            self._no_streams.set()

    def _after_crash(self) -> None:
        """Every reader gets a typed failure, and what is new is refused."""
        self._refusal = _crashed
        self._fail_streams(_crashed)

    def _fail_streams(self, make_error: Callable[[], LeptonError]) -> None:
        at = self._clock.now()
        for stream in self._streams:
            stream.fail(make_error, at)
        self._streams.clear()
        self._no_streams.set()

    def _is_stuck(self) -> bool:
        ends_at = self._mailbox.report.step_ends_at
        return ends_at is not None and self._clock.now() > ends_at + self._config.step_late_s_max


def _is_first(sequence: Sequence, event: Event) -> bool:
    """Whether this is the first token that is new to its reader."""
    return (
        isinstance(event, TokenEvent) and len(sequence.generated_ids) == len(sequence.known_ids) + 1
    )


def _starting() -> LeptonError:
    return Unavailable("the engine has not started", reason=Reason.STARTING)


def _draining() -> LeptonError:
    return Unavailable("the worker is draining; ask another one", reason=Reason.DRAINING)


def _crashed() -> LeptonError:
    return Internal("the engine has failed; ask another worker", reason=Reason.ENGINE_FAILED)
