"""One worker over real gRPC, with a runner whose tokens the test knows beforehand."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest

from common.errors import Reason, Unsupported
from common.rpc.status import from_rpc_error
from lepton.v1 import inference_pb2, types_pb2
from tests.support.fake_runner import FakeRunner, fake_completion
from tests.support.processes import until
from tests.support.worker import worker_of
from worker.engine.sequence import Sequence


def echo(text: str, *, step_s: float = 0) -> FakeRunner:
    """A runner that says `text` over and over, whatever it is asked; a step takes `step_s`, as if it computed."""
    ids = list(text.encode())

    def token(_sequence: Sequence, position: int) -> int:
        if step_s:
            threading.Event().wait(step_s)
        return ids[position % len(ids)]

    return FakeRunner(num_slots=4, capacity=100_000, tokens=token)


async def test_a_stream_is_the_greedy_completion_with_usage_and_end() -> None:
    async with worker_of(FakeRunner(capacity=64)) as worker:
        answer = await worker.ask(
            "abc", stop={"max_tokens": 20}, sampling={"seed": 5}, request_id="r-1"
        )
        answer.check_whole()
        assert answer.started is not None
        assert answer.finished is not None
        assert answer.ids() == fake_completion((97, 98, 99), num_tokens=20, seed=5)
        assert answer.text() == bytes(answer.ids()).decode(errors="replace")
        assert answer.end().reason == types_pb2.FINISH_REASON_LENGTH
        assert answer.finished.usage.prompt_tokens == 3
        assert answer.finished.usage.completion_tokens == 20
        assert answer.started.request_id == "r-1"
        assert answer.started.worker_id == "w1"
        assert answer.started.seed == 5
        assert answer.initial["lepton-request-id"] == "r-1"
        assert len(str(answer.initial["lepton-trace-id"])) == 32


@pytest.mark.parametrize(
    ("second", "cached"),
    [({}, 96), ({"salt": "other"}, 0), ({"bypass": True}, 0)],
    ids=["the same caller", "another salt", "bypass"],
)
async def test_a_known_beginning_is_told_and_counted(
    second: dict[str, object], cached: int
) -> None:
    prompt = "x" * 100
    async with worker_of(FakeRunner(capacity=200, num_blocks=8)) as worker:
        for control, expected in (({}, 0), (second, cached)):
            answer = await worker.ask(
                prompt, stop={"max_tokens": 3}, sampling={"seed": 5}, cache=control
            )
            answer.check_whole()
            assert answer.finished is not None
            assert answer.finished.usage.prompt_tokens == 100
            assert answer.finished.usage.cached_tokens == expected
            assert answer.ids() == fake_completion((120,) * 100, num_tokens=3, seed=5)
        await worker.idle()
        assert worker.metrics.get_sample_value("lepton_cached_tokens_total") == cached
        spans = await worker.ended_spans(10)
        told = [
            (span.attributes or {}).get("gen_ai.usage.cache_read.input_tokens") for span in spans
        ]
        assert [tokens for tokens in told if tokens is not None] == [0, cached]


async def test_choices_are_independent_and_each_ends() -> None:
    async with worker_of(FakeRunner(capacity=64)) as worker:
        answer = await worker.ask("abc", stop={"max_tokens": 9}, sampling={"n": 3, "seed": 1})
        answer.check_whole()
        for choice in range(3):
            assert answer.ids(choice) == fake_completion(
                (97, 98, 99), choice=choice, num_tokens=9, seed=1
            )
            assert answer.end(choice).reason == types_pb2.FINISH_REASON_LENGTH
        assert answer.finished is not None
        assert answer.finished.usage.completion_tokens == 27
        assert len(answer.finished.choices) == 3


async def test_a_stop_string_over_token_borders_cuts_the_text_and_stops_the_compute() -> None:
    runner = echo("one two three four five ", step_s=0.001)
    async with worker_of(runner) as worker:
        answer = await worker.ask("x", stop={"strings": ["three fo"], "max_tokens": 90_000})
        answer.check_whole()
        assert answer.text() == "one two "
        assert bytes(answer.ids()) == b"one two three fo"
        assert answer.end().stop_string == "three fo"
        assert answer.end().reason == types_pb2.FINISH_REASON_STOP
        assert answer.finished is not None
        assert answer.finished.usage.completion_tokens == 16
        await worker.idle()
        assert len(runner.batches) < 80_000


async def test_one_choice_stops_by_string_while_the_other_goes_on() -> None:
    def tokens(sequence: Sequence, position: int) -> int:
        return b"ab#"[position % 3] if sequence.choice == 0 else b"cd"[position % 2]

    async with worker_of(FakeRunner(capacity=64, tokens=tokens)) as worker:
        answer = await worker.ask("x", stop={"strings": ["#"], "max_tokens": 10}, sampling={"n": 2})
        answer.check_whole()
        assert (answer.text(0), answer.end(0).stop_string) == ("ab", "#")
        assert (answer.text(1), answer.end(1).reason) == (
            "cdcdcdcdcd",
            types_pb2.FINISH_REASON_LENGTH,
        )


async def test_a_stop_id_ends_without_its_text() -> None:
    async with worker_of(echo("abcdef")) as worker:
        answer = await worker.ask("x", stop={"token_ids": [ord("d")], "max_tokens": 50})
        answer.check_whole()
        assert answer.text() == "abc"
        assert bytes(answer.ids()) == b"abcd"
        assert answer.end().stop_token_id == ord("d")


async def test_a_character_of_several_tokens_comes_whole() -> None:
    async with worker_of(echo("né🚀")) as worker:
        answer = await worker.ask("x", stop={"max_tokens": 14})
        answer.check_whole()
        assert answer.text() == "né🚀né🚀"
        for delta in answer.deltas:
            assert "�" not in delta.text


async def test_token_ids_can_be_left_out_and_logprobs_asked_for() -> None:
    async with worker_of(FakeRunner()) as worker:
        answer = await worker.ask(
            "x", stop={"max_tokens": 4}, output={"token_ids": False, "logprobs": 2}
        )
        answer.check_whole()
        assert answer.ids() == []
        logprobs = [entry for delta in answer.deltas for entry in delta.logprobs]
        assert [entry.chosen.token_id for entry in logprobs] == fake_completion(
            (120,), num_tokens=4, seed=answer.started.seed if answer.started else 0
        )
        assert all(len(entry.top) == 2 for entry in logprobs)
        for entry in logprobs:
            assert all(one.token == bytes([one.token_id]) for one in (entry.chosen, *entry.top))


async def test_the_same_seed_repeats_the_draw_and_a_chosen_one_is_told() -> None:
    async with worker_of(FakeRunner()) as worker:
        first = await worker.ask("abc", stop={"max_tokens": 8})
        assert first.started is not None
        again = await worker.ask(
            "abc", stop={"max_tokens": 8}, sampling={"seed": first.started.seed}
        )
        other = await worker.ask("abc", stop={"max_tokens": 8})
        assert first.ids() == again.ids() != other.ids()
        # What a number of JavaScript holds: it must be able to send the seed back.
        assert int(float(first.started.seed)) == first.started.seed


async def test_a_slow_reader_gets_fewer_messages_with_the_same_content() -> None:
    async with worker_of(FakeRunner(capacity=2048)) as worker:
        call = worker.call(
            inference_pb2.GenerateRequest(
                text="abc",
                stop=types_pb2.StopConditions(max_tokens=1000),
                sampling=types_pb2.SamplingParams(seed=3),
            ).SerializeToString()
        )
        first = await call.read()
        await worker.idle()
        raw: list[bytes] = [first]
        while (message := await call.read()) is not grpc.aio.EOF:
            raw.append(message)
        # Messages merge by concatenating their bytes.
        merged = inference_pb2.GenerateResponse.FromString(b"".join(raw))
        ids = [i for event in merged.events for i in event.delta.token_ids]
        assert ids == fake_completion((97, 98, 99), num_tokens=1000, seed=3)
        assert [event.seq for event in merged.events] == list(range(len(merged.events)))
        assert len(raw) < 1000


async def test_many_ragged_calls_at_once_are_as_if_alone() -> None:
    async with worker_of(FakeRunner(num_slots=4, capacity=128)) as worker:
        prompts = ["p" * (1 + 7 * i % 50) for i in range(12)]
        answers = await asyncio.gather(
            *(
                worker.ask(p, stop={"max_tokens": 5 + i}, sampling={"seed": i})
                for i, p in enumerate(prompts)
            )
        )
        for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            answer.check_whole()
            assert answer.ids() == fake_completion(tuple(prompt.encode()), num_tokens=5 + i, seed=i)


async def test_cancelling_stops_the_compute() -> None:
    runner = FakeRunner(capacity=100_000)
    async with worker_of(runner) as worker:
        request = inference_pb2.GenerateRequest(
            text="abc", stop=types_pb2.StopConditions(max_tokens=90_000)
        )
        with runner.hold():
            call = worker.call(request.SerializeToString())
            await asyncio.to_thread(runner.wait_entered)
            call.cancel()
            in_flight = worker.running.in_flight
            await until(lambda: in_flight.num_calls == 0, what="the end of the call")
        await worker.idle()
        assert len(runner.batches) <= 2


async def test_a_deadline_stops_the_compute() -> None:
    runner = FakeRunner(capacity=100_000)
    async with worker_of(runner) as worker:
        answer = await worker.ask("abc", stop={"max_tokens": 90_000}, timeout_s=0.2)
        assert answer.code is not None
        assert answer.code.name == "DEADLINE_EXCEEDED"
        await worker.idle()


async def test_tokenize_and_count_say_what_generate_sees() -> None:
    async with worker_of(FakeRunner()) as worker:
        chat = types_pb2.ChatInput(
            messages=[types_pb2.ChatMessage(role=types_pb2.ROLE_USER, content="hi")]
        )
        request = inference_pb2.TokenizeRequest(chat=chat)
        raw = await worker.channel.unary_unary("/lepton.v1.InferenceService/Tokenize")(
            request.SerializeToString()
        )
        tokens = inference_pb2.TokenizeResponse.FromString(raw)
        assert b"".join(tokens.tokens) == b"user:hi\nassistant:"
        raw = await worker.channel.unary_unary("/lepton.v1.InferenceService/CountTokens")(
            inference_pb2.CountTokensRequest(chat=chat).SerializeToString()
        )
        count = inference_pb2.CountTokensResponse.FromString(raw)
        assert count.num_tokens == len(tokens.token_ids) == 18
        answer = await worker.ask(
            inference_pb2.GenerateRequest(chat=chat, stop=types_pb2.StopConditions(max_tokens=1))
        )
        assert answer.finished is not None
        assert answer.finished.usage.prompt_tokens == 18


async def test_detokenize_gives_back_what_tokenize_took() -> None:
    async with worker_of(FakeRunner()) as worker:
        ask = worker.channel.unary_unary("/lepton.v1.InferenceService/Detokenize")
        request = inference_pb2.DetokenizeRequest(token_ids=list("née\ud7ff".encode()))
        raw = await ask(request.SerializeToString())
        assert inference_pb2.DetokenizeResponse.FromString(raw).text == "née\ud7ff"
        for token_ids, model, reason in (
            ([256], "", Reason.TOKEN_ID_OUT_OF_RANGE),
            ([1], "other", Reason.MODEL_NOT_FOUND),
        ):
            request = inference_pb2.DetokenizeRequest(token_ids=token_ids, model=model)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ask(request.SerializeToString())
            error = from_rpc_error(caught.value)
            assert error is not None
            assert error.reason is reason


async def test_a_model_without_tools_refuses_them() -> None:
    tools = types_pb2.ChatInput(
        messages=[types_pb2.ChatMessage(role=types_pb2.ROLE_USER, content="hi")],
        tools=[types_pb2.Tool(name="add")],
    )
    async with worker_of(FakeRunner()) as worker:
        answer = await worker.ask(inference_pb2.GenerateRequest(chat=tools))
        assert isinstance(answer.error, Unsupported)
        assert (answer.error.reason, answer.error.field) == (Reason.TOOLS_UNSUPPORTED, "chat.tools")


async def test_list_models_tells_the_one_model() -> None:
    async with worker_of(FakeRunner(capacity=77)) as worker:
        raw = await worker.channel.unary_unary("/lepton.v1.InferenceService/ListModels")(b"")
        (model,) = inference_pb2.ListModelsResponse.FromString(raw).models
        assert (model.model, model.context_length, model.vocab_size) == ("fake", 77, 256)
        assert list(model.tasks) == ["generate"]
        assert model.num_workers == 1


async def test_a_failing_step_is_a_typed_error_and_the_next_call_works() -> None:
    runner = FakeRunner()
    async with worker_of(runner) as worker:
        runner.fail_next(RuntimeError("boom"))
        answer = await worker.ask("abc", stop={"max_tokens": 4})
        assert answer.error is not None
        assert answer.error.reason == "ENGINE_FAILED"
        assert "boom" not in answer.error.message
        (await worker.ask("abc", stop={"max_tokens": 4})).check_whole()


@pytest.mark.parametrize("n", [1, 2])
async def test_logits_that_are_not_finite_fail_that_call_alone(n: int) -> None:
    runner = FakeRunner()
    async with worker_of(runner) as worker:
        runner.breaks = lambda sequence: sequence.prompt_ids == (98,) * 3
        good, bad = await asyncio.gather(
            worker.ask("aaa", stop={"max_tokens": 30}, sampling={"seed": 1}),
            worker.ask("bbb", stop={"max_tokens": 30}, sampling={"n": n}),
        )
        assert good.ids() == fake_completion((97,) * 3, num_tokens=30, seed=1)
        assert bad.error is not None
        assert bad.error.reason == "MODEL_OUTPUT_INVALID"
