"""Before a worker registers: does this graph compute what it should, here and now?

Wrong shapes or an operator that ignores its past give fluent nonsense instead of an error, so a prompt is computed in
one piece, in two, and with its last token as a decode step: all three must agree. Then the golden prompt is answered.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from typing import Final

import numpy as np
import numpy.typing as npt

from common.errors import BadModel, Reason
from worker.engine.golden import GoldenQuestion
from worker.engine.ports import Batch, PrefillChunk
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import Sequence, StopRule
from worker.runtime.artifacts import Golden
from worker.runtime.growing import GrowingForward
from worker.runtime.runner import OnnxRunner
from worker.runtime.tokenizer import Tokenizer

__all__ = [
    "check_golden",
    "check_graph",
    "check_largest_chunk",
    "generate_greedy",
    "golden_question",
]

PROBE_TOKENS: Final = 8
CHUNK_TOKENS: Final = 256
ANSWER_TOKENS_MAX: Final = 8
"""Of the answer that probes expect: a probe takes as many steps."""
CLEAR_MARGIN: Final = 0.5
"""Lead of a token over the second best, in log-probability; company moves logits by some hundredths."""

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


def check_largest_chunk(runner: OnnxRunner, chunk_tokens_max: int) -> None:
    """The run that takes most memory, before anything is served: later it would cost requests. TensorRT builds its
    engines for shapes up to the largest that it has seen.

    Raises `BadModel(MODEL_GRAPH_UNSUPPORTED)` when there is no room for it.
    """
    size = min(chunk_tokens_max, runner.layout.capacity)
    try:
        _prefill(runner, _sequence([0] * size), [size])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise _unsupported(
            f"a chunk of {size} tokens does not run: {' '.join(str(error).split())[:300]}; lower chunk_tokens_max, "
            "rows_max, context_max or kv_memory_mib"
        ) from error


def check_golden(
    runner: OnnxRunner, tokenizer: Tokenizer, golden: Golden, eos_ids: frozenset[int]
) -> None:
    """Answers golden.json; raises `BadModel(MODEL_GOLDEN_MISMATCH)` unless the text is the same to the character."""
    prompt_ids = _golden_ids(tokenizer, golden)
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
    ids: list[int] = []
    for token_id, _ in _greedy(runner, prompt_ids):
        if token_id in eos_ids:
            break
        ids.append(token_id)
        if len(ids) >= max_tokens:
            break
    return ids


def golden_question(
    runner: OnnxRunner, tokenizer: Tokenizer, golden: Golden | None, vocab_size: int
) -> GoldenQuestion:
    """What probes ask a running worker: the golden prompt, or some tokens where there is none.

    Of the answer only so much is kept as does not hang on rounding: up to the first token that won by a hair, which
    neighbours in the batch may turn in mode `fast`.
    """
    prompt_ids = _golden_ids(tokenizer, golden) if golden else _some_ids(runner, vocab_size)
    room = runner.layout.capacity - len(prompt_ids)
    answer_ids: list[int] = []
    for token_id, margin in _greedy(runner, prompt_ids, logprobs=2):
        if margin < CLEAR_MARGIN:
            break
        answer_ids.append(token_id)
        if len(answer_ids) >= min(ANSWER_TOKENS_MAX, room):
            break
    return GoldenQuestion(tuple(prompt_ids), tuple(answer_ids))


def _greedy(
    runner: OnnxRunner, prompt_ids: SequenceOf[int], *, logprobs: int | None = None
) -> Iterator[tuple[int, float]]:
    """Token after token, each with its lead over the second best (log-probability; 0 unless asked for)."""
    sequence = _sequence(prompt_ids, logprobs=logprobs)
    ends = [*range(CHUNK_TOKENS, len(prompt_ids), CHUNK_TOKENS), len(prompt_ids)]
    batches = [_chunk(sequence, start, end) for start, end in zip([0, *ends], ends, strict=False)]
    while True:
        sampled = [result for batch in batches for result in runner.run(batch)][-1]
        if sampled.token_id is None:
            raise _mismatch("the model computes numbers that are not finite")
        sequence.num_computed_tokens = sequence.num_tokens
        sequence.generated_ids.append(sampled.token_id)
        top = [likely.logprob for likely in sampled.top[:2]]
        yield sampled.token_id, top[0] - top[1] if len(top) == 2 else 0.0
        batches = [Batch(decode=(sequence,))]


def _golden_ids(tokenizer: Tokenizer, golden: Golden) -> list[int]:
    if golden.prompt is not None:
        return tokenizer.encode(golden.prompt)
    return tokenizer.encode_chat(golden.messages, add_generation_prompt=True)


def _some_ids(runner: OnnxRunner, vocab_size: int) -> list[int]:
    size = max(1, min(PROBE_TOKENS, runner.layout.capacity - 1))
    return [(7 * at + 3) % vocab_size for at in range(size)]


def _prefill(runner: OnnxRunner, sequence: Sequence, ends: list[int]) -> npt.NDArray[np.float32]:
    """Logits [vocab] after the prompt, computed in chunks that end at `ends`."""
    rows: list[npt.NDArray[np.float32]] = [
        computed.logits[0].copy()
        for start, end in zip([0, *ends], ends, strict=False)
        for computed in runner.compute(_chunk(sequence, start, end))
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
        for computed in runner.compute(batch):
            found += [row.copy() for row in computed.logits[[0, -1]]]
    return found


def _step_at_the_end(runner: OnnxRunner) -> None:
    """The last position of a row: the graph's table of rotary positions may be shorter than the context it claims."""
    capacity = runner.layout.capacity
    if isinstance(runner.forward, GrowingForward):
        runner.forward.probe(capacity - 1)
        return
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
            "the graph does not keep its past as its cache rule says (worker.runtime.models.family)"
        )


def _sequence(
    prompt_ids: SequenceOf[int], slot: int = 0, *, logprobs: int | None = None
) -> Sequence:
    return Sequence(
        id=-1 - slot,
        choice=0,
        prompt_ids=tuple(prompt_ids),
        sampling=SamplingParams(logprobs=logprobs),
        stop=StopRule(max_tokens=1),
        slot=slot,
    )


def _chunk(sequence: Sequence, start: int, end: int) -> Batch:
    return Batch(prefill=(PrefillChunk(sequence=sequence, start=start, end=end),))


def _unsupported(message: str) -> BadModel:
    return BadModel(f"model.onnx: {message}", reason=Reason.MODEL_GRAPH_UNSUPPORTED)


def _mismatch(message: str) -> BadModel:
    return BadModel(f"golden.json: {message}", reason=Reason.MODEL_GOLDEN_MISMATCH)
