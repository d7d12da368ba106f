"""Before a worker registers: does this graph compute what it should, here and now?

Wrong shapes or an operator that ignores its past give fluent nonsense instead of an error, so a prompt is computed in
one piece, in two, and with its last token as a decode step: all three must agree. Then the golden prompt is answered.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import Final

import numpy as np
import numpy.typing as npt

from common.errors import BadModel, Reason
from worker.engine.ports import Batch, PrefillChunk
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import Sequence, StopRule
from worker.runtime.artifacts import Golden
from worker.runtime.runner import OnnxRunner
from worker.runtime.tokenizer import Tokenizer

__all__ = ["check_golden", "check_graph", "generate_greedy"]

PROBE_TOKENS: Final = 8
CHUNK_TOKENS: Final = 256

DIFFERENCE_MAX: Final = 0.35
"""Of the logits' standard deviation. Quantised activations differ by a few hundredths between one token and many;
a lost or shifted past differs by more than one."""


def check_graph(runner: OnnxRunner, vocab_size: int) -> None:
    """Warms prefill and decode up and compares them. Raises `BadModel(MODEL_GRAPH_UNSUPPORTED)`."""
    size = min(PROBE_TOKENS, runner.layout.capacity)
    probe = [(7 * at + 3) % vocab_size for at in range(size)]
    try:
        whole = _prefill(runner, _sequence(probe), [size])
        _agree(whole, whole, "a prompt")
        if size >= 4:
            _agree(
                whole,
                _prefill(runner, _sequence(probe), [size // 2, size]),
                "a prompt in two chunks",
            )
        if size >= 2:
            for row in _decode_all(runner, probe):
                _agree(whole, row, "a decode step")
        _step_at_the_end(runner)
    except BadModel:
        raise
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise _unsupported(
            f"the graph does not run: {' '.join(str(error).split())[:300]}"
        ) from error


def check_golden(
    runner: OnnxRunner, tokenizer: Tokenizer, golden: Golden, eos_ids: frozenset[int]
) -> None:
    """Answers golden.json; raises `BadModel(MODEL_GOLDEN_MISMATCH)` unless the text is the same to the character."""
    if golden.prompt is not None:
        prompt_ids = tokenizer.encode(golden.prompt)
    else:
        prompt_ids = tokenizer.encode_chat(golden.messages, add_generation_prompt=True)
    room = runner.layout.capacity - len(prompt_ids)
    if not prompt_ids or room < 1:
        raise _mismatch(
            f"its prompt has {len(prompt_ids)} tokens, a row holds {runner.layout.capacity}"
        )
    ids = generate_greedy(
        runner, prompt_ids, max_tokens=min(golden.max_tokens, room), eos_ids=eos_ids
    )
    text = tokenizer.decode(ids)
    if text != golden.text:
        raise _mismatch(f"the model answers {text[:200]!r}, expected {golden.text[:200]!r}")


def generate_greedy(
    runner: OnnxRunner, prompt_ids: SequenceOf[int], *, max_tokens: int, eos_ids: frozenset[int]
) -> list[int]:
    """Greedy tokens of one sequence alone, up to an end token, which is left out.

    Raises `BadModel(MODEL_GOLDEN_MISMATCH)` when the logits are not finite.
    """
    sequence = _sequence(prompt_ids)
    ends = [*range(CHUNK_TOKENS, len(prompt_ids), CHUNK_TOKENS), len(prompt_ids)]
    batches = [_chunk(sequence, start, end) for start, end in zip([0, *ends], ends, strict=False)]
    while True:
        sampled = [result for batch in batches for result in runner.run(batch)]
        token_id = sampled[-1].token_id
        if token_id is None:
            raise _mismatch("the model computes numbers that are not finite")
        sequence.num_computed_tokens = sequence.num_tokens
        sequence.generated_ids.append(token_id)
        if token_id in eos_ids:
            return sequence.generated_ids[:-1]
        if len(sequence.generated_ids) >= max_tokens:
            return sequence.generated_ids
        batches = [Batch(decode=(sequence,))]


def _prefill(runner: OnnxRunner, sequence: Sequence, ends: list[int]) -> npt.NDArray[np.float32]:
    """Logits [vocab] after the prompt, computed in chunks that end at `ends`."""
    rows: list[npt.NDArray[np.float32]] = [
        logits[0].copy()
        for start, end in zip([0, *ends], ends, strict=False)
        for _, logits in runner.compute(_chunk(sequence, start, end))
    ]
    return rows[-1]


def _decode_all(runner: OnnxRunner, probe: list[int]) -> list[npt.NDArray[np.float32]]:
    """The last token of the probe as a decode step, in every slot at once and in slot 0 alone."""
    rows = tuple(_sequence(probe[:-1], slot=slot) for slot in range(runner.layout.num_slots))
    for row in rows:
        _prefill(runner, row, [row.num_prompt_tokens])
        row.num_computed_tokens = row.num_prompt_tokens
        row.generated_ids.append(probe[-1])
    found = []
    for batch in (Batch(decode=rows), Batch(decode=rows[:1])):
        for _, logits in runner.compute(batch):
            found += [row.copy() for row in logits[[0, -1]]]
    return found


def _step_at_the_end(runner: OnnxRunner) -> None:
    """The last position of a row: the graph's table of rotary positions may be shorter than the context it claims."""
    capacity = runner.layout.capacity
    sequence = _sequence([0] * capacity)
    sequence.num_computed_tokens = capacity - 1
    for _ in runner.compute(Batch(decode=(sequence,))):
        pass


def _agree(expected: npt.NDArray[np.float32], actual: npt.NDArray[np.float32], what: str) -> None:
    if not np.isfinite(actual).all():
        raise _unsupported(f"the logits of {what} are not finite")
    difference = float(np.abs(expected - actual).max())
    if difference > DIFFERENCE_MAX * max(float(expected.std()), 1e-6):
        raise _unsupported(
            f"{what} gives other logits than the prompt in one piece (difference {difference:.3g}); "
            "the graph does not keep its past as GroupQueryAttention with a shared buffer does"
        )


def _sequence(prompt_ids: SequenceOf[int], slot: int = 0) -> Sequence:
    return Sequence(
        id=-1 - slot,
        choice=0,
        prompt_ids=tuple(prompt_ids),
        sampling=SamplingParams(),
        stop=StopRule(max_tokens=1),
        slot=slot,
    )


def _chunk(sequence: Sequence, start: int, end: int) -> Batch:
    return Batch(prefill=(PrefillChunk(sequence=sequence, start=start, end=end),))


def _unsupported(message: str) -> BadModel:
    return BadModel(f"model.onnx: {message}", reason=Reason.MODEL_GRAPH_UNSUPPORTED)


def _mismatch(message: str) -> BadModel:
    return BadModel(f"golden.json: {message}", reason=Reason.MODEL_GOLDEN_MISMATCH)
