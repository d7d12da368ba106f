"""A stream goes on with another worker as if nothing had happened: every kind of request, every cut, both kernels.

Two workers of one revision with different numbers of rows, the second with a prefix cache; whatever the first one was
asked is cut after each event and handed to the second one, alone and all cuts at once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from common.errors import InvalidRequest, Reason
from lepton.v1 import inference_pb2, types_pb2
from tests.support.continuation import continued, whole
from tests.support.grammars import grammar_compiler
from tests.support.paced_runner import PacedRunner
from tests.support.processes import DEMO_MODEL
from tests.support.tiny_models import (
    NEEDS_NATIVE,
    TINY_LLAMA,
    TINY_LLAMA_INT4,
    TINY_LLAMA_INT4_BLOCK64,
    load_tiny,
)
from tests.support.worker import Answer, LocalWorker, table_of, worker_of
from worker.app import facts_of
from worker.kernels.library import Kernels

Request = inference_pb2.GenerateRequest
Event = inference_pb2.Event

TINY = [
    pytest.param(TINY_LLAMA, "portable", id="fp32-portable"),
    pytest.param(TINY_LLAMA_INT4, "portable", id="int4-portable"),
    pytest.param(TINY_LLAMA, "native", id="fp32-native", marks=NEEDS_NATIVE),
    pytest.param(TINY_LLAMA_INT4, "native", id="int4-native", marks=NEEDS_NATIVE),
]
DEMO = [
    pytest.param("portable", id="portable"),
    pytest.param("native", id="native", marks=NEEDS_NATIVE),
]
TEXT = "the weight of a train is eight times that of her tent and nine times that of the red one"


@dataclass(frozen=True)
class Pair:
    """Who begins streams, and who goes on with them."""

    one: LocalWorker
    other: LocalWorker

    async def cut(self, request: Request) -> tuple[Answer, list[int]]:
        """The answer to `request`, proved to be the same behind each cut, and some second ones; and where they were."""
        first = await self.one.ask(request)
        first.check_whole()
        expected = whole(first.events)
        # The first piece comes with `Started`; once `Finished` is there nobody goes on.
        cuts = list(range(2, len(first.events)))
        for cut in {cuts[0], cuts[len(cuts) // 2], cuts[-1]}:
            assert whole(await self.resumed(request, first.events[:cut])) == expected, f"cut {cut}"
        beside = [asyncio.ensure_future(self.other.ask(other)) for other in NEIGHBOURS]
        together = await asyncio.gather(
            *(self.resumed(request, first.events[:cut]) for cut in cuts)
        )
        await asyncio.gather(*beside)
        for cut, events in zip(cuts, together, strict=True):
            assert whole(events) == expected, f"cut {cut} in company"
            if cut % 3:
                continue
            again = await self.resumed(request, events[: cut + 3], worker=self.one)
            assert whole(again) == expected, f"cut {cut}, and again"
        assert (num_mismatches(self.one), num_mismatches(self.other)) == (0, 0)
        return first, cuts

    async def resumed(
        self, request: Request, events: list[Event], *, worker: LocalWorker | None = None
    ) -> list[Event]:
        """The events that a client gets, when it got these before its worker was lost."""
        if events[-1].HasField("finished"):
            return events
        sent = continued(request, events)
        answer = await (worker or self.other).ask(sent)
        assert answer.error is None, answer.error
        assert answer.started is None
        migrated = answer.migrated
        assert migrated is not None
        assert migrated.from_worker_id == sent.continuation.from_worker_id
        assert migrated.replayed_tokens == sum(
            len(choice.token_ids)
            for choice in sent.continuation.choices
            if not choice.HasField("end")
        )
        ended = {i for i, c in enumerate(sent.continuation.choices) if c.HasField("end")}
        assert not ended & {delta.index for delta in answer.deltas}, "nothing is said twice"
        return [*events, *answer.events]


@asynccontextmanager
async def pair_of(folder: Path, kernels: Kernels, **options: Any) -> AsyncIterator[Pair]:
    async with (
        _worker(folder, kernels, is_paced=True, rows_max=6, **options) as one,
        _worker(
            folder, kernels, is_paced=False, rows_max=5, prefix_cache_mib=1, **options
        ) as other,
    ):
        yield Pair(one, other)


@asynccontextmanager
async def _worker(
    folder: Path, kernels: Kernels, *, is_paced: bool, **options: Any
) -> AsyncIterator[LocalWorker]:
    loaded = load_tiny(folder, kernels=kernels, **options)
    runner = PacedRunner(loaded.runner)
    async with worker_of(
        runner,
        model=facts_of(loaded),
        tokenizer=loaded.tokenizer,
        grammars=grammar_compiler(table_of(loaded)),
        chunk_tokens_max=64,
    ) as worker:
        runner.engine = worker.running.engine if is_paced else None
        yield worker


def asking(text: str = TEXT, **fields: Any) -> Request:
    fields.setdefault("output", {"logprobs": 2})
    fields.setdefault("stop", {"max_tokens": 14})
    return Request(text=text, **fields)


NEIGHBOURS = [
    asking(sampling={"temperature": 1.0}, stop={"max_tokens": 30}),
    asking("Something else, and some more of it.", stop={"max_tokens": 5}),
]

KINDS: dict[str, Request] = {
    "greedy": asking(output={}),
    "greedy, long prompt": asking(TEXT * 2, stop={"max_tokens": 40}),
    "seeded": asking(sampling={"temperature": 1.0, "seed": 5}),
    "seeded by the worker": asking(sampling={"temperature": 1.1, "top_p": 0.9}),
    "penalties": asking(
        sampling={
            "temperature": 0.7,
            "seed": 2**64 - 1,
            "repetition_penalty": 1.3,
            "frequency_penalty": 0.6,
            "presence_penalty": 0.4,
        }
    ),
    "greedy penalties": asking(sampling={"frequency_penalty": 1.5}),
    "logit bias": asking(sampling={"logit_bias": {40: 8.0, 41: -100.0}, "temperature": 1.0}),
    "filters": asking(sampling={"temperature": 1.4, "top_k": 40, "min_p": 0.02, "seed": 0}),
    "several choices": asking(
        sampling={"n": 3, "temperature": 1.2, "seed": 11},
        stop={"max_tokens": 12, "token_ids": list(range(20, 60))},
    ),
    "stop ids late": asking(
        sampling={"temperature": 1.3, "seed": 3},
        stop={"max_tokens": 20, "min_tokens": 8, "token_ids": list(range(40, 100))},
    ),
    "no end": asking(
        sampling={"temperature": 1.5, "seed": 8, "logit_bias": {2: 9.0}},
        stop={"max_tokens": 12, "ignore_eos": True},
    ),
    "no sharing": asking(cache={"bypass": True}, sampling={"temperature": 1.0, "seed": 1}),
    "salted": asking(TEXT * 2, cache={"salt": "s"}),
    "literals": asking(constraint={"literals": {"texts": ["a train", "a tent", "nine tents"]}}),
    "regex": asking(
        constraint={"regex": "([a-z]{2,6} ){3}[a-z]{1,9}[.]"},
        sampling={"temperature": 1.0, "seed": 4, "n": 2},
        stop={"max_tokens": 60},
    ),
    "lark": asking(
        constraint={"grammar": 'start: ("ab" | "xé" | "🚂")+ "."'},
        sampling={"temperature": 1.2, "seed": 9},
    ),
    "schema": asking(
        constraint={"json_schema": json.dumps({"enum": [{"a": [1, True]}, {"b": "é"}]})},
        stop={"max_tokens": 40},
    ),
    "object": asking(constraint={"json_object": {}}, sampling={"temperature": 1.0, "seed": 6}),
}


@pytest.mark.parametrize(("folder", "kernels"), TINY)
async def test_every_kind_of_request_goes_on_where_it_was_cut(
    folder: Path, kernels: Kernels
) -> None:
    """Of models with random weights, whose text is full of characters that take several tokens."""
    async with pair_of(folder, kernels) as pair:
        inside_characters = 0
        for name, request in KINDS.items():
            try:
                first, cuts = await pair.cut(request)
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error
            inside_characters += sum(len(delta.token_ids) > 1 for delta in first.deltas)
            assert cuts
        assert inside_characters, "some characters took several tokens"


@pytest.mark.parametrize(
    ("folder", "kernels", "options"),
    [
        pytest.param(TINY_LLAMA_INT4, "portable", {"prefill_int8": True}, id="prompts-in-int8"),
        pytest.param(
            TINY_LLAMA_INT4_BLOCK64, "portable", {"prefill_int8": True}, id="large-blocks"
        ),
        pytest.param(
            TINY_LLAMA_INT4, "native", {"kv_precision": "int8"}, id="int8-keys", marks=NEEDS_NATIVE
        ),
        pytest.param(
            TINY_LLAMA, "native", {"kv_precision": "fp16"}, id="fp16-keys", marks=NEEDS_NATIVE
        ),
    ],
)
async def test_other_forms_of_weights_and_keys_go_on_as_well(
    folder: Path, kernels: Kernels, options: dict[str, Any]
) -> None:
    async with pair_of(folder, kernels, **options) as pair:
        for name in ("greedy, long prompt", "several choices"):
            await pair.cut(KINDS[name])


@pytest.mark.parametrize(("folder", "kernels"), TINY[1:3])
async def test_stop_strings_are_found_across_every_cut(folder: Path, kernels: Kernels) -> None:
    """Those that complete in what comes later, and those that only seemed to: their text was held back for a while."""
    async with pair_of(folder, kernels) as pair:
        plain = await pair.one.ask(asking(sampling={"temperature": 1.0, "seed": 5}))
        text, held, matched = plain.text(), 0, 0
        for at in range(1, len(text) - 3, 4):
            for stop in (text[at : at + 3], text[at : at + 2] + "\x00"):
                first, _ = await pair.cut(
                    asking(
                        sampling={"temperature": 1.0, "seed": 5},
                        stop={"max_tokens": 14, "strings": [stop, "never\x00"], "min_tokens": 3},
                    )
                )
                matched += first.end().stop_string == stop
                held += sum(len(delta.token_ids) > 1 for delta in first.deltas)
        assert matched > 2
        assert held > 2


@pytest.mark.parametrize("kernels", DEMO)
async def test_the_demo_model_goes_on_with_chats_and_json(kernels: Kernels) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }

    def chat(text: str, **fields: Any) -> Request:
        return Request(
            chat={"messages": [{"role": types_pb2.ROLE_USER, "content": text}]}, **fields
        )

    requests = [
        chat("What is 17 plus 25?", output={"logprobs": 1}),
        chat("What is Lepton?", stop={"max_tokens": 24, "strings": ["router", "\n"]}),
        chat("Tell me something.", sampling={"n": 3, "temperature": 0.9}, stop={"max_tokens": 20}),
        chat("Ada is 36 years old.", constraint={"json_schema": json.dumps(schema)}),
    ]
    async with pair_of(DEMO_MODEL, kernels, context_max=1024) as pair:
        for request in requests:
            first, cuts = await pair.cut(request)
            assert len(cuts) > 2, first.text()


@pytest.mark.parametrize(("folder", "kernels"), TINY[1:3])
async def test_without_seed_position_or_penalties_the_answer_is_another(
    folder: Path, kernels: Kernels
) -> None:
    """Negative controls: what other gateways lose when they prompt with the text so far."""
    request = KINDS["penalties"]
    async with pair_of(folder, kernels) as pair:
        first = await pair.one.ask(request)
        events = first.events[:6]
        expected = whole(first.events)
        assert whole(await pair.resumed(request, events)) == expected

        other_seed = continued(request, events)
        other_seed.continuation.seed ^= 1
        assert ids_behind(events, await pair.other.ask(other_seed)) != first.ids()
        assert bool(num_mismatches(pair.other)) == (kernels == "portable"), "they draw again"

        as_prompt = continued(request, events)
        prompt = load_tiny(folder, kernels=kernels).tokenizer.encode(request.text)
        known = list(as_prompt.continuation.choices[0].token_ids)
        as_prompt.ClearField("continuation")
        as_prompt.token_ids.ids.extend(prompt + known)
        as_prompt.stop.max_tokens -= len(known)
        assert ids_behind(events, await pair.other.ask(as_prompt)) != first.ids()


async def test_without_decoding_them_again_known_tokens_leave_other_bits() -> None:
    """Negative control: on ONNX Runtime's operators a prompt has other keys and values than decoded tokens."""
    request = asking(stop={"max_tokens": 40}, output={"logprobs": 0})
    async with pair_of(TINY_LLAMA_INT4, "portable") as pair:
        first = await pair.one.ask(request)
        events = first.events[:30]
        assert whole(await pair.resumed(request, events)) == whole(first.events)
        engine = pair.other.running.engine
        engine._layout = replace(engine._layout, keeps_decoded=True)
        assert whole(await pair.resumed(request, events)) != whole(first.events)


@pytest.mark.parametrize(("folder", "kernels"), TINY[1:3])
async def test_ids_that_nobody_asked_for_are_not_told(folder: Path, kernels: Kernels) -> None:
    """The router asks for them all the same and takes them out, but a worker does what it is told."""
    async with pair_of(folder, kernels) as pair:
        request = asking(sampling={"temperature": 1.0, "seed": 5})
        first = await pair.one.ask(request)
        sent = continued(request, first.events[:5])
        sent.output.token_ids = False
        rest = await pair.other.ask(sent)
        assert rest.ids() == []
        head = "".join(event.delta.text for event in first.events[:5])
        assert head + rest.text() == first.text()
        assert rest.finished is not None
        assert first.finished is not None
        assert rest.finished.usage == first.finished.usage


@pytest.mark.parametrize(("folder", "kernels"), TINY[1:3])
async def test_known_tokens_that_do_not_follow_the_constraint_are_refused(
    folder: Path, kernels: Kernels
) -> None:
    """Others than it allows, and more than it allows; a call beside it notices nothing."""
    request = asking(constraint={"literals": {"texts": ["abc", "abd"]}})
    async with pair_of(folder, kernels) as pair:
        first = await pair.one.ask(request)
        for ids in ([first.ids()[0] ^ 1], [*first.ids(), 9]):
            sent = continued(request, first.events[:2])
            sent.continuation.choices[0].token_ids[:] = ids
            bad, good = await asyncio.gather(pair.other.ask(sent), pair.other.ask(request))
            assert isinstance(bad.error, InvalidRequest), bad
            assert bad.error.reason is Reason.GRAMMAR_UNSATISFIABLE
            assert whole(good.events)["choices"] == whole(first.events)["choices"]


async def test_in_fast_mode_the_stream_goes_on_all_the_same() -> None:
    """Which of the tokens behind the cut are others than before is not promised; how many there are is."""
    request = asking(stop={"max_tokens": 30, "ignore_eos": True}, sampling={"n": 2})
    async with pair_of(TINY_LLAMA_INT4, "portable", mode="fast", prefill_int8=True) as pair:
        first = await pair.one.ask(request)
        answer = await pair.other.ask(continued(request, first.events[:21]))
        assert first.finished is not None
        assert answer.finished is not None
        assert answer.finished.usage == first.finished.usage
        assert answer.finished.choices == first.finished.choices


def ids_behind(events: list[Event], answer: Answer) -> list[int]:
    assert answer.error is None, answer.error
    return [i for event in events for i in event.delta.token_ids] + answer.ids()


def num_mismatches(worker: LocalWorker) -> float | None:
    return worker.metrics.get_sample_value("lepton_replay_mismatches_total")
