"""What affinity may know of a prompt: hashes of its beginnings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.request.prefix_of import WINDOW_BYTES, prefix_of
from common.request.prompt_prefix import NO_PREFIX, PromptPrefix
from lepton.v1 import inference_pb2, types_pb2
from tests.support.prompts import chat_request

LONG = "x" * WINDOW_BYTES


def of_text(text: str, hashes_max: int = 128, **fields: Any) -> PromptPrefix:
    return prefix_of(inference_pb2.GenerateRequest(model="m", text=text, **fields), hashes_max)


def of_chat(*turns: str, **fields: Any) -> PromptPrefix:
    return prefix_of(chat_request(*turns, **fields), 128)


def of_ids(ids: list[int]) -> PromptPrefix:
    request = inference_pb2.GenerateRequest(model="m", token_ids=types_pb2.TokenIds(ids=ids))
    return prefix_of(request, 128)


def common(one: PromptPrefix, other: PromptPrefix) -> int:
    """How many hashes they begin with in common."""
    pairs = zip(one.hashes, other.hashes, strict=False)
    return next(
        (n for n, (a, b) in enumerate(pairs) if a != b), min(len(one.hashes), len(other.hashes))
    )


@pytest.mark.parametrize(
    ("size", "ends"),
    [
        (1, (1,)),
        (512, (512,)),
        (513, (512, 513)),
        (1100, (512, 1024, 1100)),
    ],
)
def test_a_text_has_a_hash_every_512_bytes_and_one_at_its_end(
    size: int, ends: tuple[int, ...]
) -> None:
    assert of_text("x" * size).ends == ends
    assert of_text("x" * size).is_whole


def test_token_ids_count_as_four_bytes() -> None:
    assert of_ids(list(range(300))).ends == (512, 1024, 1200)
    assert common(of_ids(list(range(300))), of_ids([*range(256), 7])) == 2
    assert common(of_ids([1, 2]), of_ids([1, 3])) == 0


def test_a_chat_has_a_hash_at_the_end_of_each_message_and_every_512_bytes_within() -> None:
    assert of_chat("s:" + "x" * 600, "u:hello", "a:").ends == (512, 600, 605, 605)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (("s:be kind", "u:hello"), ("s:be kind", "u:bye"), 1),
        (("s:be kind", "u:hello"), ("s:be rude", "u:hello"), 0),
        (("u:hello",), ("s:hello",), 0),
        (("u:ab", "u:c"), ("u:a", "u:bc"), 0),
        (("u:" + LONG * 2 + "a",), ("u:" + LONG * 2 + "b",), 2),
        (("u:a",), ("u:a", "a:"), 1),
    ],
)
def test_prompts_share_the_hashes_of_what_they_share(
    one: tuple[str, ...], other: tuple[str, ...], shared: int
) -> None:
    assert common(of_chat(*one), of_chat(*other)) == shared


turns = st.lists(
    st.builds("{}:{}".format, st.sampled_from("sua"), st.text(max_size=1500)),
    min_size=1,
    max_size=6,
)


@given(turns=turns, more=turns)
def test_adding_a_turn_keeps_all_earlier_hashes(turns: list[str], more: list[str]) -> None:
    before, after = of_chat(*turns), of_chat(*turns, *more)
    assert after.hashes[: len(before.hashes)] == before.hashes
    assert after.ends[: len(before.ends)] == before.ends
    assert list(after.ends) == sorted(after.ends)


@given(one=st.text(min_size=1, max_size=3000), other=st.text(min_size=1, max_size=3000))
def test_hashes_are_equal_exactly_where_the_bytes_are(one: str, other: str) -> None:
    a, b = of_text(one), of_text(other)
    for hash_a, end in zip(a.hashes, a.ends, strict=True):
        same = one.encode()[:end] == other.encode()[:end] and end in b.ends
        assert (hash_a in b.hashes) == same


def with_tools(*names: str, calls: str = "") -> PromptPrefix:
    request = chat_request("s:be kind", "u:hello", "a:" + "x" * 10)
    for name in names:
        request.chat.tools.add(name=name, description="y" * 600, parameters_json="{}")
    if calls:
        request.chat.messages[2].tool_calls.add(id="1", name="f", arguments_json=calls)
    return prefix_of(request, 128)


def test_tools_come_before_the_messages() -> None:
    assert common(with_tools("f"), with_tools("f")) == 5
    assert common(with_tools("f"), with_tools("f", "g")) == 1  # the window that is alike
    assert common(with_tools("f"), with_tools()) == 0
    assert common(with_tools("f"), with_tools("g")) == 0
    assert with_tools().hashes == of_chat("s:be kind", "u:hello", "a:" + "x" * 10).hashes


def test_calls_belong_to_their_message() -> None:
    assert common(with_tools(calls='{"a": 1}'), with_tools(calls='{"a": 2}')) == 2
    assert common(with_tools(calls='{"a": 1}'), with_tools()) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.cache.MergeFrom(types_pb2.CacheControl(salt="tenant")),
        lambda r: setattr(r, "adapter", "a"),
    ],
    ids=["salt", "adapter"],
)
def test_salt_and_adapter_keep_prompts_apart(
    change: Callable[[inference_pb2.GenerateRequest], None],
) -> None:
    plain, changed = chat_request("u:hello"), chat_request("u:hello")
    change(changed)
    assert common(prefix_of(plain, 128), prefix_of(changed, 128)) == 0


def test_the_name_of_the_model_and_sampling_do_not() -> None:
    """A router may know the model by an alias; the worker must make the same hashes."""
    other = chat_request("u:hello", model="alias", revision="abcdef12", session_key="s")
    other.sampling.temperature = 1.0
    assert prefix_of(other, 128) == of_chat("u:hello")


def test_text_and_chat_of_the_same_words_are_different_prompts() -> None:
    assert common(of_text("hello"), of_chat("u:hello")) == 0


def test_who_bypasses_the_cache_is_not_hashed() -> None:
    assert of_text("x", cache=types_pb2.CacheControl(bypass=True)) is NO_PREFIX
    assert of_text("x", hashes_max=0) is NO_PREFIX


def test_the_shortest_beginnings_are_kept_when_there_are_too_many() -> None:
    cut = of_text("x" * 2000, hashes_max=2)
    assert (cut.ends, cut.is_whole) == ((512, 1024), False)
    assert cut.hashes == of_text("x" * 2000).hashes[:2]


def test_a_conversation_is_known_by_its_first_question() -> None:
    first = of_chat("s:be kind", "u:hello").conversation
    assert first
    assert of_chat("s:be kind", "u:hello", "a:hi", "u:more").conversation == first
    assert of_chat("s:be kind", "u:bye").conversation != first
    assert of_text("hello").conversation == 0
