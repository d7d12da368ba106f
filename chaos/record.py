"""What a client wrote down about one request, and the answer that it amounts to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

from lepton.v1 import inference_pb2

__all__ = ["Answer", "Choice", "Migration", "Received", "Record", "answer_of"]


@dataclass(frozen=True, slots=True)
class Received:
    """One event, as it came."""

    at: float
    """Client's clock, seconds."""
    event: inference_pb2.Event


@dataclass(frozen=True, slots=True)
class Migration:
    """The stream went on elsewhere."""

    at: float
    from_worker: str
    to_worker: str


@final
@dataclass(slots=True, kw_only=True)
class Record:
    """Append-only, in the order of arrival; times in seconds on the client's clock."""

    name: str
    """The request id, unique in a run."""
    kind: str
    """What kind of request it is (`chaos.requests`)."""
    request: inference_pb2.GenerateRequest
    sent_at: float
    deadline_s: float
    received: list[Received] = field(default_factory=list)
    ended_at: float | None = None
    """None while it runs, or for ever."""
    code: str = ""
    """gRPC code of the end."""
    reason: str = ""
    """Reason of the error; "" when it ended well."""
    message: str = ""
    """What the error said."""
    finished_twice: bytes | None = None
    """`Finished` of the trailing metadata, "" without one; None where the client does not show it."""
    cancelled_at: float | None = None
    """When the client gave up by itself."""

    @property
    def started(self) -> inference_pb2.Started | None:
        """The first event, if it came."""
        for one in self.received:
            if one.event.HasField("started"):
                return one.event.started
        return None

    @property
    def finished(self) -> inference_pb2.Finished | None:
        """The last event, if it came."""
        for one in reversed(self.received):
            if one.event.HasField("finished"):
                return one.event.finished
        return None

    @property
    def migrations(self) -> list[Migration]:
        """How often it went elsewhere, in order."""
        return [
            Migration(one.at, one.event.migrated.from_worker_id, one.event.migrated.to_worker_id)
            for one in self.received
            if one.event.HasField("migrated")
        ]

    @property
    def token_times(self) -> list[float]:
        """When tokens came, one per event that brought some."""
        return [one.at for one in self.received if one.event.HasField("delta")]

    @property
    def num_tokens(self) -> int:
        """Token ids received, over all choices."""
        return sum(len(one.event.delta.token_ids) for one in self.received)

    @property
    def is_whole(self) -> bool:
        """Whether it ended well: OK, `Finished` as the last event, and the same in the trailing metadata."""
        finished = self.finished
        return (
            self.code == "OK"
            and finished is not None
            and self.received[-1].event.HasField("finished")
            and self.finished_twice in (None, finished.SerializeToString())
        )

    def worker_at(self, at: float) -> str:
        """Who produced its tokens then; "" before the first one."""
        started = self.started
        if started is None or self.received[0].at > at:
            return ""
        worker = started.worker_id
        for move in self.migrations:
            if move.at <= at:
                worker = move.to_worker
        return worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One choice of an answer, as far as it came."""

    token_ids: tuple[int, ...] = ()
    text: str = ""
    logprobs: tuple[tuple[int, float, tuple[tuple[int, float], ...]], ...] = ()
    """Per token when asked for: id, log-probability, the most likely ones."""
    end: tuple[int, str, int] | None = None
    """Reason, stop string, stop token id; None when it has not ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a request should get, or got: everything but times and names."""

    choices: tuple[Choice, ...]
    prompt_tokens: int
    completion_tokens: int


def answer_of(record: Record) -> Answer:
    """The answer that the events of a record amount to; counts are 0 when no `Finished` came."""
    num = max(1, record.request.sampling.n)
    deltas: list[list[inference_pb2.Delta]] = [[] for _ in range(num)]
    for one in record.received:
        if one.event.HasField("delta"):
            deltas[one.event.delta.index].append(one.event.delta)
    finished = record.finished or inference_pb2.Finished()
    return Answer(
        choices=tuple(_choice(each) for each in deltas),
        prompt_tokens=finished.usage.prompt_tokens,
        completion_tokens=finished.usage.completion_tokens,
    )


def _choice(deltas: Sequence[inference_pb2.Delta]) -> Choice:
    ends = [delta.end for delta in deltas if delta.HasField("end")]
    return Choice(
        token_ids=tuple(i for delta in deltas for i in delta.token_ids),
        text="".join(delta.text for delta in deltas),
        logprobs=tuple(
            (
                position.chosen.token_id,
                position.chosen.logprob,
                tuple((top.token_id, top.logprob) for top in position.top),
            )
            for delta in deltas
            for position in delta.logprobs
        ),
        end=(ends[-1].reason, ends[-1].stop_string, ends[-1].stop_token_id) if ends else None,
    )
