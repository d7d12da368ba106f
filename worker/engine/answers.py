"""What a runner answers to a batch: how it verifies drafts, and what the engine looks at before it believes an answer.

    computed     last token   d1   d2   d3            one run, positions n … n + 3
    drawn        t0           t1   t2   t3            t0 stands; t1 if t0 = d1; t2 if also t1 = d2; …
    answer       t0 = d1, t1 = d2, t2 ≠ d3            three tokens; the keys and values of d3 are written over next time

A draw is what it would have been without a draft: the logits are the same to the bit (`CacheLayout.num_drafted`), and
the sequence is what it would be by then. So drafts change the number of steps, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf

from worker.engine.ports import Batch, Draft, Sampled

__all__ = ["check_answer", "num_accepted", "verify"]


def verify(draft: Draft, draw: Callable[[int], Sampled]) -> list[Sampled]:
    """Draws after the last token of a sequence and on, as long as what was drawn is what was proposed: 1 to len + 1.

    `draw(i)` draws from the logits after i tokens of the draft; during the call the sequence has those tokens.
    """
    generated = draft.sequence.generated_ids
    size = len(generated)
    results = []
    try:
        for at, proposed_id in enumerate(draft.token_ids):
            results.append(draw(at))
            if results[-1].token_id != proposed_id:
                return results
            generated.append(proposed_id)
        results.append(draw(len(draft.token_ids)))
        return results
    finally:
        del generated[size:]


def num_accepted(draft: Draft, sampled: SequenceOf[Sampled]) -> int:
    """How many tokens of a draft stand, according to an answer that `check_answer` has passed."""
    return sum(result.sequence is draft.sequence for result in sampled) - 1


def check_answer(batch: Batch, sampled: SequenceOf[Sampled]) -> None:
    """Raises RuntimeError unless `sampled` has exactly one result for every sequence that `batch` draws a token for.

    With a draft it may have more, of which all but the last are what was proposed.
    """
    found: dict[int, list[int | None]] = {}
    for result in sampled:
        found.setdefault(result.sequence.id, []).append(result.token_id)
    expected = [sequence.id for sequence in batch.drawing]
    drafts = {draft.sequence.id: draft.token_ids for draft in batch.drafts}
    if sorted(found) != sorted(expected) or any(
        tuple(ids[:-1]) != drafts.get(number, ())[: len(ids) - 1] for number, ids in found.items()
    ):
        raise RuntimeError(
            f"the runner answered with {len(sampled)} results for {len(expected)} sequences"
        )
