"""What answers the steps of a core in tests: scripts instead of servers, a clock that moves when the core pauses."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lepton.v1 import inference_pb2, types_pb2
from lepton_client.asking import Asking, Deadline
from lepton_client.errors import LeptonError
from lepton_client.reconnection import Reconnection
from lepton_client.retry import RetryBudget, RetryPolicy
from lepton_client.routers import Route, Routers
from lepton_client.status import error_of
from lepton_client.steps import (
    Answered,
    Close,
    Ended,
    Failed,
    Give,
    Open,
    Pause,
    Read,
    Reply,
    Step,
    Unary,
)

GONE = error_of("UNAVAILABLE", "connection refused", ())


def refusal(code: str, reason: str, *, retry_after: float | None = None) -> LeptonError:
    """As a router would send it."""
    error = error_of(code, "refused", ())
    error.reason, error.retry_after = reason, retry_after
    return error


def answer(num_tokens: int, *, token: str = "", choices: int = 1) -> list[inference_pb2.Event]:
    """Started, deltas, Finished. Token ids count from 100."""
    started = inference_pb2.Started(worker_id="w1", seed=7, prompt_tokens=3, resume_token=token)
    events = [inference_pb2.Event(started=started)]
    for number in range(num_tokens):
        for index in range(choices):
            delta = inference_pb2.Delta(index=index, text=f"{number} ", token_ids=[100 + number])
            if number == num_tokens - 1:
                delta.end.reason = types_pb2.FINISH_REASON_STOP
            events.append(inference_pb2.Event(delta=delta))
    events.append(inference_pb2.Event(finished=inference_pb2.Finished()))
    for seq, event in enumerate(events):
        event.seq = seq
    return events


def part(events: Iterable[inference_pb2.Event], then: LeptonError | None = None) -> list[Reply]:
    """A message per event, then the error, or the end."""
    replies: list[Reply] = [
        Answered(inference_pb2.GenerateResponse(events=[event])) for event in events
    ]
    return [*replies, Failed(then) if then else Ended()]


@dataclass
class World:
    """Answers `Open` and `Unary` by what `serve` says of them."""

    serve: Callable[[Open | Unary], Sequence[Reply]]
    addresses: tuple[str, ...] = ("r1:1", "r2:1")
    timeout_s: float = 600.0
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    now: float = 0.0
    asked: list[Open | Unary] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    given: list[inference_pb2.Event] = field(default_factory=list)
    told: list[Reconnection] = field(default_factory=list)
    error: LeptonError | None = None

    def __post_init__(self) -> None:
        self.budget = RetryBudget(self.policy)
        self.routers = Routers(self.addresses)

    def asking(self) -> Asking:
        return Asking(
            route=Route(self.routers),
            policy=self.policy,
            budget=self.budget,
            metadata=(("k", "v"),),
            deadline=Deadline(self.timeout_s, lambda: self.now),
            rng=random.Random(1),
            on_reconnect=self.told.append,
        )

    def play(self, core: Generator[Step, Reply, Any]) -> Any:
        """Runs it to its end; what it gave, or how it failed, is kept."""
        reply: Reply = None
        stream: list[Reply] = []
        try:
            while True:
                step = core.send(reply)
                reply = None
                match step:
                    case Open():
                        self.asked.append(step)
                        stream = list(self.serve(step))
                    case Unary():
                        self.asked.append(step)
                        (reply,) = self.serve(step)
                    case Read():
                        reply = stream.pop(0)
                    case Give(events):
                        self.given.extend(events)
                    case Pause(seconds):
                        self.pauses.append(seconds)
                        self.now += seconds
                    case Close():
                        stream = []
        except StopIteration as end:
            return end.value
        except LeptonError as error:
            self.error = error
            return None

    @property
    def seqs(self) -> list[int]:
        return [event.seq for event in self.given]

    @property
    def routes(self) -> list[str]:
        return [step.address for step in self.asked]
