"""The runner against transformers, against plain NumPy, and against itself in company."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from common.errors import BadModel
from tests.support.half import in_half
from tests.support.numpy_llama import NumpyLlama
from tests.support.tiny_models import (
    NEEDS_NATIVE,
    TINY_FAMILIES,
    TINY_LLAMA,
    TINY_LLAMA_INT4,
    TINY_LLAMA_INT4_BLOCK64,
    TINY_OPTIMUM,
    TINY_QWEN2,
    copy_model,
    golden_cases,
    load_tiny,
    make_sequence,
    prefill,
)
from worker.engine.ports import Batch, PrefillChunk, SlotCopy
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import Sequence
from worker.kernels.library import Kernels, isas_here
from worker.runtime import session
from worker.runtime.artifacts import read_artifact
from worker.runtime.mode import Mode
from worker.runtime.model import LoadedModel, load_model
from worker.runtime.models.registry import FAMILIES
from worker.runtime.phased import PhasedForward
from worker.runtime.runner import OnnxRunner
from worker.runtime.sampler import largest
from worker.runtime.tiles import level2_cache_bytes, query_tile, runs

FP32 = [TINY_LLAMA, TINY_QWEN2]
Form = tuple[Path, str]
NATIVE = [
    *(
        pytest.param((folder, "native"), marks=NEEDS_NATIVE)
        for folder in (*TINY_FAMILIES, TINY_LLAMA_INT4, TINY_LLAMA_INT4_BLOCK64)
    ),
    pytest.param((TINY_LLAMA_INT4, "native-kv-int8"), marks=NEEDS_NATIVE),
]
ALL = [
    *((folder, "stored") for folder in (*TINY_FAMILIES, *TINY_OPTIMUM, TINY_LLAMA_INT4)),
    (TINY_LLAMA_INT4, "prefill-int8"),
    (TINY_LLAMA_INT4_BLOCK64, "prefill-int8"),
    (TINY_LLAMA, "half"),
    (TINY_LLAMA_INT4, "device"),
    *NATIVE,
]
"""Our operators; ONNX Runtime's with the weights as stored, with a form of their own for prompts, and with that one for
everything; in fp16, with keys and values in this machine's memory and in a device's."""
Logits = npt.NDArray[np.float32]


def model_id(form: Path | Form) -> str:
    folder, how = form if isinstance(form, tuple) else (form, "stored")
    return f"{folder.parent.name}-{folder.name}-{how}"


def phased(model: LoadedModel) -> PhasedForward:
    """What computes with ONNX Runtime's own operators."""
    assert isinstance(model.runner.forward, PhasedForward)
    return model.runner.forward


def load(form: Form, **options: int) -> LoadedModel:
    folder, how = form
    if how == "native":
        return load_tiny(folder, kernels="native", **options)
    if how == "native-kv-int8":
        return load_tiny(folder, kernels="native", kv_precision="int8", **options)
    if how in ("half", "device"):
        mode: Mode = "fast" if how == "device" else "exact"
        return load_tiny(in_half(folder), mode=mode, on_device=how == "device", **options)
    return load_tiny(folder, prefill_int8=how == "prefill-int8", **options)


@cache
def reference(folder: Path) -> NumpyLlama:
    return NumpyLlama(folder)


def compute(runner: OnnxRunner, batch: Batch) -> dict[int, Logits]:
    """Sequence id → logits after this step."""
    found = {}
    for sequences, logits, best in runner.compute(batch):
        assert best is None or np.array_equal(best, largest(logits))
        found |= {s.id: logits[row].copy() for row, s in enumerate(sequences)}
    return found


def advance(sequence: Sequence, token_id: int) -> None:
    """What the engine does after a token."""
    sequence.num_computed_tokens = sequence.num_tokens
    sequence.generated_ids.append(token_id)


def generate_alone(
    model: LoadedModel, prompt_ids: list[int], num_tokens: int, *borders: int, slot: int = 0
) -> tuple[list[int], list[Logits]]:
    """Greedy ids and the logits of each position; decodes in slot 0 after prefilling in `slot`."""
    sequence, rows = make_sequence(prompt_ids, slot=slot), []
    for batch in prefill(sequence, *borders):
        rows += compute(model.runner, batch).values()
    copies: tuple[SlotCopy, ...] = (SlotCopy(slot, 0, len(prompt_ids)),) if slot else ()
    sequence.slot = 0
    while True:
        advance(sequence, int(rows[-1].argmax()))
        if len(sequence.generated_ids) == num_tokens:
            return sequence.generated_ids, rows
        rows += compute(model.runner, Batch(copies=copies, decode=(sequence,))).values()
        copies = ()


@pytest.mark.parametrize(
    "form",
    [
        *((folder, "stored") for folder in (*TINY_FAMILIES, *TINY_OPTIMUM)),
        *NATIVE[: len(TINY_FAMILIES)],
    ],
    ids=model_id,
)
def test_answers_what_transformers_answers(form: Form) -> None:
    model = load(form)
    for case in golden_cases(form[0].parent.name):
        ids, rows = generate_alone(model, case["prompt_ids"], len(case["greedy_ids"]))
        assert ids == case["greedy_ids"]
        np.testing.assert_allclose(rows[0], case["first_logits"], atol=5e-4)
        np.testing.assert_allclose(rows[-1], case["last_logits"], atol=5e-4)


@pytest.mark.parametrize("folder", FP32, ids=model_id)
def test_computes_what_plain_numpy_computes(folder: Path) -> None:
    model, rng = load_tiny(folder), random.Random(5)
    for length in (1, 2, 17, 60):
        prompt = [rng.randrange(300) for _ in range(length)]
        ids, rows = generate_alone(model, prompt, 5)
        expected = reference(folder).logits(prompt + ids[:-1])[length - 1 :]
        np.testing.assert_allclose(np.stack(rows), expected, atol=5e-4)


@pytest.mark.parametrize("form", ALL, ids=model_id)
def test_chunk_borders_change_no_bit(form: Form) -> None:
    model, rng = load(form), random.Random(6)
    # With heads of 16 the tiles of attention have 32 rows: lengths around one and two of them are the hard ones.
    for length in (6, 31, 32, 33, 34, 35, 40, 64, 65, 66, 67, 97, 130):
        prompt = [rng.randrange(300) for _ in range(length)]
        whole = generate_alone(model, prompt, 2)
        for border in {2, 3, 31, 32, 33, 34, 64, 65, 66, length - 33, length - 3, length - 2}:
            if not 2 <= border <= length - 2:
                continue
            pieces = generate_alone(model, prompt, 2, border)
            assert pieces[0] == whole[0]
            assert [row.tobytes() for row in pieces[1]] == [row.tobytes() for row in whole[1]]
        pieces = generate_alone(model, prompt, 2, *range(2, length - 1, 2))
        assert [row.tobytes() for row in pieces[1]] == [row.tobytes() for row in whole[1]]


@pytest.mark.parametrize("form", NATIVE, ids=model_id)
def test_a_token_gets_the_same_bits_from_a_prompt_and_by_itself(form: Form) -> None:
    """What our operators promise beyond ONNX Runtime's: so an answer may be continued from a prompt that holds it."""
    model, rng = load(form), random.Random(7)
    for length in (1, 2, 15, 33, 64, 120):
        prompt = [rng.randrange(300) for _ in range(length)]
        ids, rows = generate_alone(model, prompt, 20)
        for taken in (1, 7, 19):
            assert (
                generate_alone(model, prompt + ids[:taken], 1)[1][0].tobytes()
                == rows[taken].tobytes()
            )


@pytest.mark.parametrize("form", ALL, ids=model_id)
def test_the_slot_and_a_copy_change_no_bit(form: Form) -> None:
    model, rng = load(form), random.Random(8)
    prompt = [rng.randrange(300) for _ in range(21)]
    at_home = generate_alone(model, prompt, 5)
    away = generate_alone(model, prompt, 5, slot=4)
    assert away[0] == at_home[0]
    assert [row.tobytes() for row in away[1]] == [row.tobytes() for row in at_home[1]]


class Company:
    """A careless little engine: sequences join and leave at random, rows move, prompts come in random chunks."""

    def __init__(self, model: LoadedModel, rng: random.Random) -> None:
        self._model, self._rng = model, rng
        self._running: list[Sequence] = []
        self._prefilling: list[Sequence] = []
        self._joining: list[Sequence] = []
        self._waiting: list[Sequence] = []
        self.done: list[Sequence] = []
        self.logits: dict[int, list[Logits]] = {}

    def add(self, prompt: list[int]) -> None:
        self._waiting.append(make_sequence(prompt, slot=None))

    def play(self, num_tokens: int) -> None:
        """Until everybody has left, each after a random number of tokens."""
        limits: dict[int, int] = {}
        while self._waiting or self._prefilling or self._joining or self._running:
            copies = [*self._leave(limits), *self._join(), *self._admit()]
            batch = Batch(copies=tuple(copies), prefill=self._chunks(), decode=tuple(self._running))
            for sequence_id, row in compute(self._model.runner, batch).items():
                self.logits.setdefault(sequence_id, []).append(row)
            for chunk in batch.prefill:
                chunk.sequence.num_computed_tokens = chunk.end
                if chunk.is_last:
                    self._prefilling.remove(chunk.sequence)
                    self._joining.append(chunk.sequence)
                    limits[chunk.sequence.id] = self._rng.randint(1, num_tokens)
                    self._append(chunk.sequence)
            for sequence in batch.decode:
                self._append(sequence)

    def _append(self, sequence: Sequence) -> None:
        advance(sequence, int(self.logits[sequence.id][-1].argmax()))

    def _leave(self, limits: dict[int, int]) -> list[SlotCopy]:
        """The last row moves into the hole."""
        copies = []
        for sequence in [s for s in self._running if len(s.generated_ids) >= limits[s.id]]:
            self.done.append(sequence)
            hole, last = sequence.slot or 0, self._running[-1]
            if last is not sequence:
                copies.append(SlotCopy(last.slot or 0, hole, last.num_computed_tokens))
                last.slot, self._running[hole] = hole, last
            self._running.pop()
        return copies

    def _join(self) -> list[SlotCopy]:
        """Rows prefill from the top down and decode from the bottom up."""
        copies = []
        for sequence in self._joining:
            slot = len(self._running)
            if sequence.slot != slot:
                copies.append(SlotCopy(sequence.slot or 0, slot, sequence.num_computed_tokens))
                sequence.slot = slot
            self._running.append(sequence)
        self._joining.clear()
        return copies

    def _admit(self) -> list[SlotCopy]:
        """Somebody new, now and then with the beginning of a neighbour's prompt already computed."""
        copies = []
        layout = self._model.runner.layout
        while self._waiting and self._rng.random() < 0.7:
            taken = {s.slot for s in (*self._prefilling, *self._running)}
            # Room for everybody who prefills to join without meeting one who still does.
            if len(taken) >= layout.num_slots // 2:
                break
            slot = max(set(range(layout.num_slots)) - taken)
            sequence = self._waiting.pop(0)
            sequence.slot = slot
            for neighbour in self._running:
                shared = _common(neighbour.prompt_ids, sequence.prompt_ids[:-2])
                if shared >= 2:
                    copies.append(SlotCopy(neighbour.slot or 0, slot, shared))
                    sequence.num_computed_tokens = shared
                    break
            self._prefilling.append(sequence)
        return copies

    def _chunks(self) -> tuple[PrefillChunk, ...]:
        """At least two tokens each, as a run of one token rounds differently; a prompt of one token excepted."""
        chunks = []
        for sequence in self._prefilling:
            start, length = sequence.num_computed_tokens, sequence.num_prompt_tokens
            if self._rng.random() < 0.2:
                continue
            size = self._rng.choice((2, 3, 9, 24, 33, 64, 65, 80))
            end = length if length - (start + size) < 2 else start + size
            chunks.append(PrefillChunk(sequence=sequence, start=start, end=end))
        return tuple(chunks)


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return next(
        (at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


prompts = st.lists(
    st.one_of(
        st.lists(st.integers(0, 299), min_size=1, max_size=110),
        st.integers(0, 40).map(lambda size: [7, 8, 9, 10] * 3 + list(range(size))),
    ),
    min_size=2,
    max_size=9,
)


@pytest.mark.parametrize("form", ALL, ids=model_id)
@settings(max_examples=25, deadline=None)
@given(prompts=prompts, seed=st.integers(0, 1 << 30))
def test_neighbours_that_join_and_leave_change_no_bit(
    form: Form, prompts: list[list[int]], seed: int
) -> None:
    model = load(form)
    company = Company(model, random.Random(seed))
    for prompt in prompts:
        company.add(prompt)
    company.play(num_tokens=12)
    assert len(company.done) == len(prompts)
    for sequence in company.done:
        ids, rows = generate_alone(model, list(sequence.prompt_ids), len(sequence.generated_ids))
        assert sequence.generated_ids == ids
        assert [r.tobytes() for r in company.logits[sequence.id]] == [r.tobytes() for r in rows]


@pytest.mark.parametrize("folder", FP32, ids=model_id)
def test_company_computes_what_plain_numpy_computes(folder: Path) -> None:
    model, rng = load_tiny(folder), random.Random(11)
    company = Company(model, rng)
    for _ in range(8):
        company.add([rng.randrange(300) for _ in range(rng.randint(1, 60))])
    company.play(num_tokens=10)
    for sequence in company.done:
        whole = [*sequence.prompt_ids, *sequence.generated_ids[:-1]]
        expected = reference(folder).logits(whole)[sequence.num_prompt_tokens - 1 :]
        np.testing.assert_allclose(np.stack(company.logits[sequence.id]), expected, atol=5e-4)


@pytest.mark.parametrize("form", ALL, ids=model_id)
def test_a_row_may_be_full_to_its_last_token(form: Form) -> None:
    tight, roomy = load(form, rows_max=3, context_max=32), load(form)
    prompt = [(at * 13) % 300 for at in range(28)]
    ids, rows = generate_alone(roomy, prompt, 5)
    # 28 prompt tokens and 4 of the 5 generated: exactly 32 in the cache.
    tight_ids, tight_rows = generate_alone(tight, prompt, 5)
    assert tight_ids == ids
    assert [row.tobytes() for row in tight_rows] == [row.tobytes() for row in rows]
    full = [(at * 17) % 300 for at in range(32)]
    assert generate_alone(tight, full, 1)[0] == generate_alone(roomy, full, 1)[0]


@pytest.mark.parametrize(
    ("start", "end", "tile", "expected"),
    [
        (0, 1, 32, [(0, 1)]),
        (0, 2, 32, [(0, 2)]),
        (0, 32, 32, [(0, 32)]),
        (0, 33, 32, [(0, 31), (31, 33)]),
        (5, 70, 32, [(5, 68), (68, 70)]),
        (5, 70, None, [(5, 70)]),
        (0, 34, 32, [(0, 34)]),
    ],
)
def test_no_run_ends_in_a_tile_of_one_row(
    start: int, end: int, tile: int | None, expected: list[tuple[int, int]]
) -> None:
    assert runs(start, end, tile) == expected


def test_tiles_follow_from_head_and_cache() -> None:
    assert [query_tile(head, 1 << 20) for head in (16, 32, 64, 96, 128)] == [32, 64, 128, 192, 256]
    assert query_tile(128, 1 << 18) == 64
    assert query_tile(64, 0) is None
    assert level2_cache_bytes() >= 0


def test_one_row_more_than_fits_is_refused_before_anything_runs() -> None:
    runner = load_tiny(TINY_LLAMA, rows_max=3, context_max=32).runner
    sequence = make_sequence([1] * 32, generated_ids=[5])
    sequence.num_computed_tokens = 32
    with pytest.raises(AssertionError, match="33 tokens, capacity 32"):
        runner.run(Batch(decode=(sequence,)))
    with pytest.raises(AssertionError, match="capacity 32"):
        runner.run(next(prefill(make_sequence([1] * 33))))


@pytest.mark.parametrize(
    ("sequence", "chunk", "match"),
    [
        (make_sequence([1, 2], slot=1), None, "in slot 1"),
        (make_sequence([1, 2], slot=None), None, "in slot None"),
        (make_sequence([1, 2]), None, "lacks keys and values"),
        (make_sequence([1, 2]), (1, 1), "chunk"),
        (make_sequence([1, 2]), (0, 3), "chunk"),
        (make_sequence([1, 2]), (-1, 2), "chunk"),
        (make_sequence([1, 2], slot=6), (0, 2), "slot 6"),
        (make_sequence([1, 2], slot=-1), (0, 2), "slot -1"),
        (make_sequence([1, 2], slot=None), (0, 2), "no slot"),
    ],
)
def test_a_wrong_batch_is_refused_before_anything_runs(
    sequence: Sequence, chunk: tuple[int, int] | None, match: str
) -> None:
    if chunk is None:
        batch = Batch(decode=(sequence,))
    else:
        batch = Batch(prefill=(PrefillChunk(sequence=sequence, start=chunk[0], end=chunk[1]),))
    with pytest.raises(AssertionError, match=match):
        load_tiny(TINY_LLAMA).runner.run(batch)


def test_a_chunk_inside_the_decode_run_is_refused() -> None:
    row = make_sequence([1, 2], generated_ids=[3])
    row.num_computed_tokens = 2
    chunk = PrefillChunk(sequence=make_sequence([1, 2], slot=0), start=0, end=2)
    with pytest.raises(AssertionError, match="decode run up to 1"):
        load_tiny(TINY_LLAMA).runner.run(Batch(prefill=(chunk,), decode=(row,)))


@pytest.mark.parametrize(
    "copy", [SlotCopy(0, 6, 1), SlotCopy(-1, 0, 1), SlotCopy(0, 1, 257), SlotCopy(0, 1, -1)]
)
def test_a_copy_out_of_bounds_is_refused(copy: SlotCopy) -> None:
    with pytest.raises(AssertionError, match="copy of"):
        load_tiny(TINY_LLAMA).runner.run(Batch(copies=(copy,)))


@pytest.fixture(scope="module", params=["portable", pytest.param("native", marks=NEEDS_NATIVE)])
def poisonous(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> LoadedModel:
    """Token 299 has an embedding that is not a number."""
    folder = copy_model(TINY_LLAMA, tmp_path_factory.mktemp("models") / "poisonous")
    model = onnx.load(folder / "model.onnx")
    for item in model.graph.initializer:
        if item.name == "model.embed_tokens.weight":
            embedding = numpy_helper.to_array(item).copy()
            embedding[299] = np.nan
            item.CopyFrom(numpy_helper.from_array(embedding, item.name))
    (folder / "model.onnx.data").unlink()
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data")
    return load_tiny(folder, kernels=request.param)


def test_logits_that_are_not_finite_concern_their_row_alone(poisonous: LoadedModel) -> None:
    runner = poisonous.runner
    healthy = [make_sequence([1, 2, 3], slot=0), make_sequence([4, 5], slot=2)]
    sick = make_sequence([6, 299, 7], slot=1)
    alone = {tuple(s.prompt_ids): generate_alone(poisonous, list(s.prompt_ids), 4) for s in healthy}
    rows = [healthy[0], sick, healthy[1]]
    for row in rows:
        (result,) = runner.run(next(prefill(row)))
        assert (result.token_id is None) == (row is sick)
        advance(row, result.token_id or 0)
    for _ in range(3):
        results = runner.run(Batch(decode=tuple(rows)))
        assert [r.token_id is None for r in results] == [False, True, False]
        for result in results:
            advance(result.sequence, result.token_id or 0)
    for row in healthy:
        assert row.generated_ids == alone[tuple(row.prompt_ids)][0]


def test_a_row_that_held_nonsense_can_be_used_again(poisonous: LoadedModel) -> None:
    clean = generate_alone(poisonous, [9, 8, 7, 6], 6)
    for slot in range(poisonous.runner.layout.num_slots):
        assert (
            poisonous.runner.run(next(prefill(make_sequence([299] * 100, slot=slot))))[0].token_id
            is None
        )
    again = generate_alone(poisonous, [9, 8, 7, 6], 6)
    assert again[0] == clean[0]
    assert [row.tobytes() for row in again[1]] == [row.tobytes() for row in clean[1]]


def test_one_result_per_row_and_per_prompt_that_ends() -> None:
    runner = load_tiny(TINY_LLAMA).runner
    row = make_sequence([1, 2], slot=0, sampling=SamplingParams(logprobs=2))
    advance(row, runner.run(next(prefill(row)))[0].token_id or 0)
    ends, goes_on = make_sequence([3, 4, 5], slot=1), make_sequence([6, 7, 8, 9], slot=2)
    results = runner.run(
        Batch(
            prefill=(
                PrefillChunk(sequence=ends, start=0, end=3),
                PrefillChunk(sequence=goes_on, start=0, end=2),
            ),
            decode=(row,),
        )
    )
    assert {result.sequence.id for result in results} == {ends.id, row.id}
    assert [len(r.top) for r in results if r.sequence is row] == [2]
    runner.release(row)
    runner.release(row)


def decoded_together(model: LoadedModel, num_rows: int) -> list[bytes]:
    """Logits of the same token in each of `num_rows` rows."""
    rows = []
    for slot in range(num_rows):
        row = make_sequence([5, 6, 7, 8], slot=slot)
        for batch in prefill(row):
            compute(model.runner, batch)
        advance(row, 9)
        rows.append(row)
    found = compute(model.runner, Batch(decode=tuple(rows)))
    return [found[row.id].tobytes() for row in rows]


@pytest.mark.parametrize("isa", isas_here())
def test_every_instruction_set_answers_with_the_same_bits(isa: Kernels) -> None:
    """So the fingerprint does not name it, and a stream may go on with a worker that has another."""
    best, other = (load_tiny(TINY_LLAMA_INT4, kernels=kernels) for kernels in ("native", isa))
    assert other.info.fingerprint == best.info.fingerprint
    prompt = [random.Random(3).randrange(300) for _ in range(70)]
    expected, found = (generate_alone(model, prompt, 12) for model in (best, other))
    assert found[0] == expected[0]
    assert [row.tobytes() for row in found[1]] == [row.tobytes() for row in expected[1]]


@NEEDS_NATIVE
def test_the_best_instruction_set_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a processor with AVX2 alone, and on one with nothing that our operators are made for."""

    def loaded_event(kernels: Kernels) -> object:
        said: dict[str, dict[str, object]] = {}
        load_model(
            TINY_LLAMA,
            name="tiny",
            threads=1,
            rows_max=1,
            kernels=kernels,
            progress=said.__setitem__,
        )
        return said["model.loaded"]["kernels"]

    assert loaded_event("auto") == isas_here()[0]
    monkeypatch.setattr(session, "isas_here", lambda: ("avx2",))
    assert loaded_event("auto") == loaded_event("native") == loaded_event("avx2") == "avx2"
    with pytest.raises(BadModel, match=r"kernels = avx512_vnni .* run in avx2; set it to"):
        loaded_event("avx512_vnni")
    monkeypatch.setattr(session, "isas_here", tuple)
    assert loaded_event("auto") == "portable"
    with pytest.raises(BadModel, match=r"kernels = native .* no AVX2; set it to auto"):
        loaded_event("native")


@NEEDS_NATIVE
def test_what_rounding_keys_and_values_costs() -> None:
    """Beside what int4 weights cost, which is 0.2 to 0.5 of the logits' standard deviation."""
    rng = random.Random(12)
    prompt = [rng.randrange(300) for _ in range(120)]
    exact = generate_alone(load_tiny(TINY_LLAMA, kernels="native"), prompt, 1)[1][0]
    for name, bound in (("fp16", 0.002), ("int8", 0.05)):
        model = load_tiny(TINY_LLAMA, kernels="native", kv_precision=name)
        assert f"-kv-{name}/" in model.info.fingerprint
        found = generate_alone(model, prompt, 1)[1][0]
        error = float(np.sqrt(((found - exact) ** 2).mean()) / exact.std())
        assert 0 < error < bound


def test_less_than_fp32_needs_our_operators() -> None:
    with pytest.raises(BadModel, match="kv_precision"):
        load_tiny(TINY_LLAMA, kernels="portable", kv_precision="fp16")


def test_large_blocks_as_stored_depend_on_company() -> None:
    """Why the mode `exact` does not decode with them: the negative control of the tests above."""
    stored = load_tiny(TINY_LLAMA_INT4_BLOCK64, mode="fast")
    assert phased(stored).many_from is None
    assert decoded_together(stored, 2)[0] != decoded_together(stored, 1)[0]
    exact = load_tiny(TINY_LLAMA_INT4_BLOCK64, prefill_int8=True)
    assert decoded_together(exact, 2) == decoded_together(exact, 1) * 2
    assert "/exact/int4-block64-as-int8/" in exact.info.fingerprint


def test_rounding_once_more_costs_little_beside_the_first_time() -> None:
    """Errors against fp32, after a prompt."""
    rng, errors = random.Random(12), {False: 0.0, True: 0.0}
    for _ in range(20):
        prompt = [rng.randrange(300) for _ in range(40)]
        exact = generate_alone(load_tiny(TINY_LLAMA), prompt, 1)[1][0]
        for prefill_int8 in errors:
            model = load_tiny(TINY_LLAMA_INT4, prefill_int8=prefill_int8)
            errors[prefill_int8] += float(
                np.square(generate_alone(model, prompt, 1)[1][0] - exact).sum()
            )
    assert 0 < errors[True] < 1.1 * errors[False]


def test_the_mode_fast_chooses_by_the_number_of_rows() -> None:
    model = load_tiny(TINY_LLAMA_INT4, prefill_int8=True, mode="fast")
    assert "/fast/int4-block32+prefill-int8/" in model.info.fingerprint
    phased(model).many_from = 2
    few, many = decoded_together(model, 1), decoded_together(model, 2)
    assert few[0] != many[0]
    phased(model).many_from = 1
    assert decoded_together(model, 1)[0] == many[0]


def test_every_family_has_a_golden_model() -> None:
    served = {name for family in FAMILIES for name in family.model_types}
    tried = {read_artifact(folder).config.model.type for folder in (*TINY_FAMILIES, *TINY_OPTIMUM)}
    assert tried == served
