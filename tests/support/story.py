"""An answer that is known beforehand, token by token, so that a stream over several workers can be checked.

The token at a position of a choice is a pure function of both; a fake worker tells the story from wherever a
continuation says that the client is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lepton.v1 import inference_pb2, types_pb2

__all__ = ["Told", "finished_of", "story_of", "text_of", "token_of"]

SEED = 42
PROMPT_TOKENS = 5
CACHED_TOKENS = 2


def token_of(choice: int, position: int) -> int:
    """The id of one token."""
    return 1 + (position * 31 + choice * 17) % 997


def text_of(choice: int, position: int) -> str:
    """Its text."""
    return f"{choice}.{position} "


def finished_of(num_choices: int, tokens: int) -> inference_pb2.Finished:
    """The end of a story."""
    usage = types_pb2.Usage(prompt_tokens=PROMPT_TOKENS, completion_tokens=num_choices * tokens)
    end = inference_pb2.ChoiceEnd(reason=types_pb2.FINISH_REASON_LENGTH)
    return inference_pb2.Finished(usage=usage, choices=[end] * num_choices)


def story_of(
    request: inference_pb2.GenerateRequest, *, worker_id: str, tokens: int
) -> Iterator[bytes]:
    """The messages of one worker: one event each, one token per event, choice 0 one token shorter than the others."""
    num_choices = request.sampling.n if request.sampling.HasField("n") else 1
    told = [0] * num_choices
    seq = 0
    if request.HasField("continuation"):
        continuation = request.continuation
        assert continuation.seed == SEED
        assert continuation.prompt_tokens == PROMPT_TOKENS
        assert continuation.cached_tokens == CACHED_TOKENS
        assert len(continuation.choices) == num_choices
        for index, choice in enumerate(continuation.choices):
            told[index] = len(choice.token_ids)
            assert list(choice.token_ids) == [token_of(index, p) for p in range(told[index])]
            assert choice.HasField("end") == (told[index] == _length(index, tokens))
        seq = continuation.next_seq
        yield _message(
            seq,
            migrated=inference_pb2.Migrated(
                from_worker_id=continuation.from_worker_id,
                to_worker_id=worker_id,
                replayed_tokens=sum(told),
            ),
        )
    else:
        yield _message(
            seq,
            started=inference_pb2.Started(
                worker_id=worker_id,
                seed=SEED,
                prompt_tokens=PROMPT_TOKENS,
                cached_tokens=CACHED_TOKENS,
            ),
        )
    with_ids = request.output.token_ids if request.output.HasField("token_ids") else True
    while open_choices := [c for c in range(num_choices) if told[c] < _length(c, tokens)]:
        choice = min(open_choices, key=lambda c: (told[c], c))
        position = told[choice]
        told[choice] += 1
        delta = inference_pb2.Delta(index=choice, text=text_of(choice, position))
        if with_ids:
            delta.token_ids.append(token_of(choice, position))
        if told[choice] == _length(choice, tokens):
            delta.end.reason = types_pb2.FINISH_REASON_LENGTH
        seq += 1
        yield _message(seq, delta=delta)
    yield _message(seq + 1, finished=finished_of(num_choices, tokens))


def _length(choice: int, tokens: int) -> int:
    return tokens if choice or tokens == 1 else tokens - 1


def _message(seq: int, **kind: object) -> bytes:
    event = inference_pb2.Event(seq=seq, **kind)  # type: ignore[arg-type]
    return inference_pb2.GenerateResponse(events=[event]).SerializeToString()


@dataclass(slots=True)
class Told:
    """What a client has heard."""

    events: list[inference_pb2.Event] = field(default_factory=list)

    @classmethod
    def of(cls, messages: Sequence[bytes]) -> Told:
        told = cls()
        for message in messages:
            told.events.extend(inference_pb2.GenerateResponse.FromString(message).events)
        return told

    @property
    def workers(self) -> list[str]:
        """Who told it, in order."""
        return [
            event.started.worker_id or event.migrated.to_worker_id
            for event in self.events
            if event.HasField("started") or event.HasField("migrated")
        ]

    def ids(self, choice: int = 0) -> list[int]:
        return [i for e in self.events if e.delta.index == choice for i in e.delta.token_ids]

    def text(self, choice: int = 0) -> str:
        return "".join(e.delta.text for e in self.events if e.delta.index == choice)

    def check(self, tokens: int, *, num_choices: int = 1, with_ids: bool = True) -> None:
        """The whole story: nothing lost, repeated, out of order, or told twice."""
        assert [event.seq for event in self.events] == list(range(len(self.events)))
        kinds = [event.WhichOneof("kind") for event in self.events]
        assert kinds.count("started") == 1
        assert kinds.count("finished") == 1
        assert (kinds[0], kinds[-1]) == ("started", "finished")
        for choice in range(num_choices):
            length = _length(choice, tokens)
            expected = [token_of(choice, p) for p in range(length)] if with_ids else []
            assert self.ids(choice) == expected
            assert self.text(choice) == "".join(text_of(choice, p) for p in range(length))
