"""What the engine needs of the runtime: one call per step.

The scheduler never sees an array, the runner never sees a queue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from common.errors import LeptonError
from worker.engine.decode_cost import Decoding
from worker.engine.sequence import Sequence

__all__ = [
    "Batch",
    "BlockLoad",
    "BlockSave",
    "CacheLayout",
    "Draft",
    "ModelRunner",
    "PrefillChunk",
    "RowSave",
    "RowTrim",
    "Sampled",
    "SlotCopy",
    "TopLogprob",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLayout:
    """How much the KV slab holds, and what the runner can do; discovered at load, never changed. Raises ValueError."""

    num_slots: int
    """Rows; most sequences at once."""
    capacity: int
    """Tokens per row."""
    tokens_max: int | None = None
    """Most tokens of all rows together for which there is memory, at least `capacity`; None: rows may all be full."""
    keeps_decoded: bool = False
    """Whether a decoded token has the keys and values, to the bit, that a prompt gives it: then both may be shared."""
    num_blocks: int = 0
    """Blocks of `worker.engine.prefix.BLOCK_TOKENS` positions beside the rows, for beginnings that prompts share."""
    num_drafted: int = 0
    """Most tokens of drafts in one step, over all rows; 0: the runner verifies none. Only with `keeps_decoded`, and
    where logits are the same to the bit, too."""

    def __post_init__(self) -> None:
        if self.num_drafted and not self.keeps_decoded:
            raise ValueError("drafts without keys and values that are the same to the bit")

    @property
    def num_tokens(self) -> int:
        """Most tokens of all rows together."""
        full = self.num_slots * self.capacity
        return full if self.tokens_max is None else min(self.tokens_max, full)


@dataclass(frozen=True, slots=True)
class SlotCopy:
    """Copy the first `num_tokens` positions of one row to another, in all layers, before anything runs."""

    source: int
    target: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class RowTrim:
    """Give back the memory of a row from position `num_tokens` on, in all layers: nobody will read it again."""

    slot: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class BlockLoad:
    """Copy blocks, one after another, to the beginning of a row, in all layers, before anything runs."""

    slot: int
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BlockSave:
    """Copy the positions of a row from `start` on into a block, in all layers, after the chunk has run."""

    block: int
    start: int


@dataclass(frozen=True, slots=True)
class RowSave:
    """Copy a block's worth of positions of a decoding sequence into a block, after its token has been computed."""

    sequence: Sequence
    save: BlockSave


@dataclass(frozen=True, slots=True)
class Draft:
    """Tokens that may come next in a decoding sequence, to be computed behind its last one in the same run."""

    sequence: Sequence
    token_ids: tuple[int, ...]
    """At least one. None of them would end the sequence, and one more token fits into `max_tokens`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillChunk:
    """Positions [start, end) of `Sequence.prefill_ids`, computed in one run into the slot of the sequence."""

    sequence: Sequence
    start: int
    end: int
    saves: tuple[BlockSave, ...] = ()
    """Blocks that are complete with this chunk and shall be kept."""
    followers: tuple[Sequence, ...] = ()
    """With the last chunk: sequences with the same `prefill_ids`. They get a copy of the row and draw from the same
    logits."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        return self.sequence.prefill_ids[self.start : self.end]

    @property
    def is_last(self) -> bool:
        """Whether a token is drawn after it."""
        return self.end == self.sequence.num_prefill_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The work of one step, in this order: copies (one after another), trims, loads, prefill chunks, decode, saves."""

    copies: tuple[SlotCopy, ...] = ()
    trims: tuple[RowTrim, ...] = ()
    loads: tuple[BlockLoad, ...] = ()
    """Into slots of sequences whose first chunk comes in the same batch."""
    prefill: tuple[PrefillChunk, ...] = ()
    """Of sequences in slots len(decode), len(decode) + 1, … in that order, each before its followers, without gaps.

    A sequence has one chunk or two, which follow one another: run them in this order. Every chunk but the last of a
    prompt has an even number of tokens, and none has 1, 17, 33, …, except that of a prompt of one token
    (`worker.engine.chunking` says why).
    """
    decode: tuple[Sequence, ...] = ()
    """Sequences whose slots are 0, 1, …, len(decode) - 1, in that order."""
    drafts: tuple[Draft, ...] = ()
    """Of sequences in `decode`, in their order; at most `CacheLayout.num_drafted` tokens."""
    saves: tuple[RowSave, ...] = ()
    """Of sequences in `decode`, never with a token of a draft; only where `CacheLayout.keeps_decoded`."""

    @property
    def drawing(self) -> tuple[Sequence, ...]:
        """Sequences that get a token from this step: all of `decode`, then the prompts that end in it."""
        ended = [chunk for chunk in self.prefill if chunk.is_last]
        return self.decode + tuple(s for chunk in ended for s in (chunk.sequence, *chunk.followers))

    @property
    def decoding(self) -> Decoding:
        """How much this step decodes."""
        return Decoding.of(self.decode)

    @property
    def num_prefill_tokens(self) -> int:
        """Prompt tokens that this step computes."""
        return sum(chunk.end - chunk.start for chunk in self.prefill)

    @property
    def num_drafted(self) -> int:
        """Tokens of drafts that this step computes."""
        return sum(len(draft.token_ids) for draft in self.drafts)


@dataclass(frozen=True, slots=True)
class TopLogprob:
    token_id: int
    logprob: float
    """Natural logarithm, raw distribution (before temperature and filters), at most 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What one sequence got from a step: a token, or a failure that concerns this sequence alone."""

    sequence: Sequence
    token_id: int | None
    """None when this row failed: the sequence ends, its neighbours go on."""
    error: LeptonError | None = None
    """Why it failed; None when the logits of the row were not finite."""
    is_complete: bool = False
    """Whether its grammar lets nothing follow this token: the sequence ends with it."""
    logprob: float | None = None
    """Of the chosen token, when asked for."""
    top: tuple[TopLogprob, ...] = ()


class ModelRunner(Protocol):
    """Computes batches. Called from the engine thread only; blocks for the length of a step."""

    @property
    def layout(self) -> CacheLayout: ...

    def run(self, batch: Batch) -> list[Sampled]:
        """One `Sampled` per decode row and per chunk with `is_last`; of a row with a draft, one for each token that
        `worker.engine.answers.verify` draws, in their order. Leaves every sequence as it was.

        Raises anything on a failure that concerns the whole step; the engine then fails the sequences of the batch.
        """
        ...

    def rest(self) -> None:
        """No sequence has a slot, and none came for a while: gives back memory that rows took."""
        ...

    def release(self, sequence: Sequence) -> None:
        """Forgets what is kept per sequence (penalties, grammar). Called once for each time that it had a slot."""
        ...
