"""What has come of an answer so far: texts, ends, counts. Pure."""

from __future__ import annotations

from typing import final

from lepton.v1 import inference_pb2, types_pb2

__all__ = ["Answer", "finish_name"]


@final
class Answer:
    """Fills while its stream is read; complete when `finished` is there."""

    def __init__(self, num_choices: int = 1) -> None:
        self._pieces: list[list[str]] = [[] for _ in range(max(1, num_choices))]
        self._reasons: dict[int, str] = {}
        self.started: inference_pb2.Started | None = None
        """Who answers: request id, worker, model, seed, prompt tokens."""
        self.finished: inference_pb2.Finished | None = None
        """Counts, timings and ends."""
        self.num_moves = 0
        """Times that the stream went on from another worker."""

    @property
    def texts(self) -> list[str]:
        """Per choice."""
        return ["".join(pieces) for pieces in self._pieces]

    @property
    def finish_reasons(self) -> list[str | None]:
        """Per choice: "STOP", "LENGTH", a number for one of a newer cluster; None while it has not ended."""
        return [self._reasons.get(index) for index in range(len(self._pieces))]

    @property
    def usage(self) -> types_pb2.Usage | None:
        """Token counts, once the answer is complete."""
        return self.finished.usage if self.finished else None

    def take(self, event: inference_pb2.Event) -> None:
        """The next event."""
        match event.WhichOneof("kind"):
            case "started":
                self.started = event.started
            case "delta":
                self._take_delta(event.delta)
            case "migrated":
                self.num_moves += 1
            case "finished":
                self.finished = event.finished
            case _:
                pass  # of a newer cluster

    def _take_delta(self, delta: inference_pb2.Delta) -> None:
        while delta.index >= len(self._pieces):
            self._pieces.append([])
        self._pieces[delta.index].append(delta.text)
        if delta.HasField("end"):
            self._reasons[delta.index] = finish_name(delta.end.reason)


def finish_name(reason: int) -> str:
    """Of FINISH_REASON_STOP "STOP"; the number of one that this release does not know."""
    value = types_pb2.FinishReason.DESCRIPTOR.values_by_number.get(reason)
    return value.name.removeprefix("FINISH_REASON_") if value else str(reason)
