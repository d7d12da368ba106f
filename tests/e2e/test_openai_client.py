"""The official `openai` client against a cluster with the demo model, as `lepton up` starts it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.support.lepton_up import ANY_PORTS, cluster_for_a_file

pytestmark = [pytest.mark.e2e]

ASK: Any = [{"role": "user", "content": "What is 27 + 35?"}]


@pytest.fixture(scope="module", name="url")
def _url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("rest")
    with cluster_for_a_file(folder, *ANY_PORTS, "--workers=1", "--etcd=none") as state:
        yield f"http://{state.http_address}"


@pytest.fixture(name="client")
def _client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(name="aclient")
async def _aclient(url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_chat(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="demo", messages=ASK)
    assert answer.choices[0].message.content == "27 + 35 = 62"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details is not None


def test_a_streamed_chat(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="demo", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said == "27 + 35 = 62"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 5


async def test_the_async_client(aclient: AsyncOpenAI) -> None:
    stream = await aclient.chat.completions.create(model="demo", messages=ASK, stream=True)
    said = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(said) == "27 + 35 = 62"


async def test_the_stream_helper_gathers_the_same(aclient: AsyncOpenAI) -> None:
    async with aclient.chat.completions.stream(model="demo", messages=ASK) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == "27 + 35 = 62"


class _Person(BaseModel):
    name: str
    age: int


def test_structured_output(client: OpenAI) -> None:
    answer = client.chat.completions.parse(
        model="demo",
        messages=[{"role": "user", "content": "Who is Ada?"}],
        response_format=_Person,
        max_completion_tokens=200,
    )
    parsed = answer.choices[0].message.parsed
    assert answer.choices[0].finish_reason == "length" or isinstance(parsed, _Person)


def test_json_mode_and_vllm_names(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="demo", messages=ASK, extra_body={"guided_choice": ["yes", "no"], "top_k": 5}
    )
    assert answer.choices[0].message.content in {"yes", "no"}
    answer = client.chat.completions.create(
        model="demo", messages=ASK, response_format={"type": "text"}, max_tokens=2
    )
    assert answer.choices[0].finish_reason == "length"


def test_logprobs(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="demo", messages=ASK, logprobs=True, top_logprobs=3
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert "".join(one.token for one in logprobs.content) == "27 + 35 = 62"
    assert all(len(one.top_logprobs) == 3 for one in logprobs.content)
    assert all(one.logprob <= 0 for one in logprobs.content)


def test_completions_of_several_prompts(client: OpenAI) -> None:
    answer = client.completions.create(
        model="demo",
        prompt=["one two", "three"],
        n=2,
        max_tokens=4,
        temperature=1,
        seed=7,
        logprobs=1,
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    alone = client.completions.create(
        model="demo", prompt="three", n=2, max_tokens=4, temperature=1, seed=7
    )
    assert [c.text for c in answer.choices[2:]] == [c.text for c in alone.choices]
    stream = client.completions.create(
        model="demo",
        prompt=["one two", "three"],
        n=2,
        max_tokens=4,
        temperature=1,
        seed=7,
        stream=True,
    )
    texts = ["", "", "", ""]
    for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in answer.choices]


def test_stop_and_seed_and_token_ids(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="demo", messages=ASK, stop=["="])
    assert answer.choices[0].message.content == "27 + 35 "
    answers = {
        client.completions.create(
            model="demo", prompt=[70, 71, 72], max_tokens=8, temperature=1.5, seed=-3
        )
        .choices[0]
        .text
        for _ in range(3)
    }
    assert len(answers) == 1


def test_models(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").owned_by == "lepton"
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("other")
    assert refused.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"top_p": 7}, "top_p", "field_out_of_range"),
        ({"n": 0}, "n", "field_out_of_range"),
        ({"n": 10_000}, "n", "field_out_of_range"),
        ({"max_completion_tokens": 0}, "max_completion_tokens", "field_out_of_range"),
        ({"max_tokens": 0}, "max_tokens", "field_out_of_range"),
        ({"logit_bias": {"999999": 1}}, "logit_bias", "token_id_out_of_range"),
        ({"logit_bias": {"x": 1}}, "logit_bias", "field_malformed"),
        ({"stop": [""]}, "stop", "field_out_of_range"),
        ({"extra_body": {"best_of": 3}}, "best_of", "parameter_unsupported"),
        ({"extra_body": {"modalities": ["audio"]}}, "modalities", "parameter_unsupported"),
        ({"extra_body": {"temprature": 1}}, "temprature", "parameter_unsupported"),
        ({"extra_body": {"lepton": {"priority": "top"}}}, "lepton.priority", "field_malformed"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "field_malformed"),
        ({"extra_body": {"guided_regex": "(?=a)"}}, "guided_regex", None),
        ({"messages": []}, "messages", "prompt_empty"),
        ({"messages": [{"role": "robot"}]}, "messages[0].role", "field_malformed"),
        ({"messages": [{"role": "user", "content": "x " * 5000}]}, "messages", "prompt_too_long"),
    ],
)
@pytest.mark.parametrize("streams", [False, True])
def test_errors_name_the_parameter(
    client: OpenAI, more: dict[str, Any], param: str, code: str | None, *, streams: bool
) -> None:
    call: dict[str, Any] = {"model": "demo", "messages": ASK, "stream": streams, **more}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**call)
    assert refused.value.param == param
    assert code in (None, refused.value.code)
    assert refused.value.request_id


def test_what_changes_nothing_is_let_be(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="demo",
        messages=ASK,
        store=False,
        user="me",
        metadata={"a": "b"},
        service_tier="auto",
        parallel_tool_calls=True,
        max_tokens=1,
    )
    assert answer.choices[0].finish_reason == "length"


def test_tokenize_and_back(client: OpenAI) -> None:
    root = str(client.base_url).removesuffix("v1/")
    tokens = client.post(f"{root}tokenize", body={"prompt": "héllo"}, cast_to=dict[str, Any])
    assert tokens["count"] == len(tokens["tokens"])
    text = client.post(
        f"{root}detokenize", body={"tokens": tokens["tokens"]}, cast_to=dict[str, Any]
    )
    assert text["prompt"] == "héllo"


def test_any_text_survives_the_stream(client: OpenAI) -> None:
    """Line breaks, quotes, event-stream syntax: the constraint makes the model say them."""
    nasty = 'a\n\ndata: [DONE]\r\nid: 7\n: "x" \u2028 \\ é 😀'
    stream = client.chat.completions.create(
        model="demo", messages=ASK, stream=True, extra_body={"guided_choice": [nasty]}
    )
    assert "".join(c.choices[0].delta.content or "" for c in stream) == nasty


@pytest.mark.timeout(600)
def test_whatever_the_schema_allows_or_forbids_is_answered(url: str, tmp_path: Path) -> None:
    """schemathesis: no 5xx, no answer that `/openapi.json` does not know, nothing wrong that is taken."""
    checks = (
        "not_a_server_error,status_code_conformance,content_type_conformance,"
        "response_schema_conformance,negative_data_rejection"
    )
    run = [Path(sys.executable).parent / "schemathesis", "run", f"{url}/openapi.json", "--no-color"]
    bounds = ["--phases=fuzzing", "--max-examples=25", "--seed=1", "--request-timeout=20"]
    done = subprocess.run(
        [*run, *bounds, f"--checks={checks}", "--generation-database=none", "--warnings=off"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
