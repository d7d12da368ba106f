"""Batch → tokens: compute, then draw."""

from __future__ import annotations

from collections.abc import Iterator

from worker.engine.answers import verify
from worker.engine.ports import Batch, CacheLayout, Draft, Sampled
from worker.engine.sequence import Sequence
from worker.runtime.forward import Computed, Forward, check_batch
from worker.runtime.growing import GrowingForward
from worker.runtime.models.family import CacheRule
from worker.runtime.packed import PackedForward
from worker.runtime.phased import PhasedForward
from worker.runtime.sampler import Sampler
from worker.runtime.session import Graph

__all__ = ["OnnxRunner"]


class OnnxRunner:
    """Implements `worker.engine.ports.ModelRunner`. One thread at a time."""

    def __init__(self, graph: Graph, layout: CacheLayout) -> None:
        self.forward = _forward(graph, layout)
        self.sampler = Sampler()
        """Others take its place to say what is known beforehand (`loadtest.lookup`)."""

    def __repr__(self) -> str:
        return f"<OnnxRunner {self.forward!r}>"

    @property
    def layout(self) -> CacheLayout:
        return self.forward.layout

    def run(self, batch: Batch) -> list[Sampled]:
        """One result per chunk that ends its prompt and per decoding row, more of rows with drafts."""
        drafts = {draft.sequence: draft for draft in batch.drafts}
        sampled: list[Sampled] = []
        for computed in self.compute(batch):
            draft = drafts.get(computed.sequences[0])
            if draft is None:
                sampled += self.sampler.sample(
                    computed.logits, computed.sequences, best=computed.best
                )
            else:
                sampled += self._verify(draft, computed)
        return sampled

    def compute(self, batch: Batch) -> Iterator[Computed]:
        """The same without drawing."""
        check_batch(batch, self.layout)
        return self.forward.compute(batch)

    def _verify(self, draft: Draft, computed: Computed) -> list[Sampled]:
        """Of 1 + tokens of the draft places."""

        def draw(at: int) -> Sampled:
            here = slice(at, at + 1)
            best = None if computed.best is None else computed.best[here]
            (drawn,) = self.sampler.sample(computed.logits[here], (draft.sequence,), best=best)
            return drawn

        return verify(draft, draw)

    def rest(self) -> None:
        """No sequence has a slot: gives memory back."""
        self.forward.rest()

    def release(self, sequence: Sequence) -> None:
        """Forgets the penalty counts and the grammar state of a sequence."""
        self.sampler.release(sequence)


def _forward(graph: Graph, layout: CacheLayout) -> Forward:
    if graph.cache is CacheRule.GROWING:
        return GrowingForward(graph, layout)
    return PackedForward(graph, layout) if graph.is_native else PhasedForward(graph, layout)
