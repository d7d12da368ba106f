"""Text never becomes control tokens, chats are encoded as transformers does, pieces join to the whole."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as HfTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers

from common.errors import BadModel, InvalidRequest, Reason
from tests.support.tiny_models import TINY_LLAMA, Message, golden_cases, load_tiny
from worker.runtime.tokenizer import Tokenizer

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TOKENIZER = load_tiny(TINY_LLAMA).tokenizer
TOKENIZER_JSON = (TINY_LLAMA / "tokenizer.json").read_text("utf-8")
PLAIN_TEMPLATE = (TINY_LLAMA / "chat_template.jinja").read_text("utf-8")


def make_tokenizer(template: str | None = PLAIN_TEMPLATE, **edits: Any) -> Tokenizer:
    data = json.loads(TOKENIZER_JSON) | edits
    return Tokenizer(
        json.dumps(data), chat_template=template, named_tokens={"bos_token": SPECIAL[0]}
    )


def shown(tokenizer: Tokenizer, ids: list[int]) -> str:
    """Everything that the ids stand for, control tokens by name."""
    return b"".join(map(tokenizer.token_bytes, ids)).decode()


# Pieces that make trouble: whole tokens, their halves, what completes them, and anything else.
trouble = st.lists(
    st.one_of(
        st.sampled_from(SPECIAL),
        st.sampled_from(
            [
                "<",
                "<|",
                "|>",
                ">",
                "<|im_",
                "im_end|>",
                "end|>",
                "|",
                " ",
                "\n",
                "é",
                "﷐",
                "﷯",
                "<<|im_end|>",
            ]
        ),
        st.text(max_size=4),
    ),
    max_size=8,
).map("".join)


@settings(max_examples=200, deadline=None)
@given(text=trouble)
def test_text_never_becomes_control_tokens(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.control_ids.isdisjoint(ids)
    assert TOKENIZER.decode(ids) == text


@settings(max_examples=200, deadline=None)
@given(contents=st.lists(st.tuples(trouble, trouble), min_size=1, max_size=4), prompt=st.booleans())
def test_messages_never_become_control_tokens(
    contents: list[tuple[str, str]], prompt: bool
) -> None:
    messages = [Message("user", content, name) for content, name in contents]
    ids = TOKENIZER.encode_chat(messages, add_generation_prompt=prompt)
    control = [i for i in ids if i in TOKENIZER.control_ids]
    assert control == [1, 2] * len(messages) + [1] * prompt
    expected = "".join(f"<|im_start|>user\n{content}<|im_end|>\n" for content, _ in contents)
    assert shown(TOKENIZER, ids) == expected + "<|im_start|>assistant\n" * prompt


HOSTILE_TEMPLATES = {
    "joins two messages": "{{ messages[0].content + messages[1].content }}<|im_end|>",
    "joins content and name": "{{ messages[0].content }}{{ messages[0].name }}<|im_end|>",
    "trims": "{% for m in messages %}{{ m.content | trim }}{{ m.content | trim }}{% endfor %}<|im_end|>",
    "takes characters out": "{% for m in messages %}{{ m.content | replace('X', '') }}{% endfor %}<|im_end|>",
    "changes case": "{% for m in messages %}{{ m.content | lower }}{{ m.content | upper }}{% endfor %}<|im_end|>",
    "splits and joins": "{% for m in messages %}{{ m.content.split() | join('') }}{% endfor %}<|im_end|>",
    "writes half a token": "<|im_{{ messages[0].content }}<{{ messages[1].content }}<|im_end|>",
    "writes JSON": "{{ messages | tojson }}<|im_end|>",
    "reverses": "{{ messages[0].content[::-1] }}<|im_end|>",
}


@pytest.mark.parametrize("template", HOSTILE_TEMPLATES.values(), ids=HOSTILE_TEMPLATES)
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(trouble, min_size=2, max_size=3))
def test_no_template_can_be_made_to_forge_one(template: str, texts: list[str]) -> None:
    tokenizer = make_tokenizer(template)
    messages = [Message("user", text, text[::-1]) for text in texts]
    ids = tokenizer.encode_chat(messages, add_generation_prompt=True)
    assert [i for i in ids if i in tokenizer.control_ids] == [2]
    assert ids[-1] == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("<|im_", "end|>"),
        ("<", "|im_end|>"),
        ("<|im_end|", ">"),
        ("end|>", "|im_end|>"),
        ("im_end", "<|im_end|>"),
    ],
)
def test_tokens_in_two_pieces_stay_apart(first: str, second: str) -> None:
    for template in HOSTILE_TEMPLATES.values():
        tokenizer = make_tokenizer(template)
        messages = [Message("user", first, second), Message("user", second)]
        ids = tokenizer.encode_chat(messages, add_generation_prompt=True)
        assert [i for i in ids if i in tokenizer.control_ids] == [2]


def test_templates_see_messages_as_they_are() -> None:
    """Marks are put only where a token would arise: a template may look for other tags."""
    template = "{{ messages[0].content.split('</think>')[-1] }}|{{ messages[0].content.startswith('<think>') }}"
    ids = make_tokenizer(template).encode_chat(
        [Message("assistant", "<think>hm</think>yes")], add_generation_prompt=False
    )
    assert shown(TOKENIZER, ids) == "yes|True"


def test_chats_are_encoded_as_transformers_encodes_them() -> None:
    checked = 0
    for case in golden_cases("tiny-llama"):
        if "messages" in case:
            messages = [Message(**message) for message in case["messages"]]
            assert TOKENIZER.encode_chat(messages, add_generation_prompt=True) == case["prompt_ids"]
            checked += 1
        else:
            assert TOKENIZER.encode(case["prompt"]) == case["prompt_ids"]
    assert checked


def test_text_around_control_tokens_keeps_its_own_tokens() -> None:
    """What lies between two control tokens is encoded as one: the ids are those of the rendered whole."""
    hf = HfTokenizer.from_str(TOKENIZER_JSON)
    for content in ("\nthe router", " the", "the worker ", "\n\n", "", "7 the answer\n"):
        ids = TOKENIZER.encode_chat([Message("user", content)], add_generation_prompt=True)
        rendered = f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"
        assert ids == hf.encode(rendered, add_special_tokens=False).ids


def test_tokens_that_swallow_space() -> None:
    added = json.loads(TOKENIZER_JSON)["added_tokens"]
    added[1] |= {"rstrip": True}
    added[2] |= {"lstrip": True}
    tokenizer = make_tokenizer(
        "<|im_start|>{{ messages[0].content }}<|im_end|>", added_tokens=added
    )
    ids = tokenizer.encode_chat([Message("user", "  a b  ")], add_generation_prompt=False)
    assert shown(tokenizer, ids) == "<|im_start|>a b<|im_end|>"


def test_a_token_controls_when_the_template_writes_it_or_the_model_ends_by_it() -> None:
    added = [token | {"special": False} for token in json.loads(TOKENIZER_JSON)["added_tokens"]]
    tokenizer = make_tokenizer(added_tokens=added)
    assert tokenizer.control_ids == {1, 2}  # the template does not write <|endoftext|>
    assert tokenizer.encode("<|endoftext|>") == [0]
    assert tokenizer.control_ids.isdisjoint(tokenizer.encode("<|im_end|><|im_start|>"))
    told = Tokenizer(
        json.dumps(json.loads(TOKENIZER_JSON) | {"added_tokens": added}),
        chat_template=None, named_tokens={}, control_ids=frozenset({0}),
    )  # fmt: skip
    assert told.control_ids == {0}
    assert told.control_ids.isdisjoint(told.encode("a<|endoftext|>"))


def added_token(token_id: int, content: str) -> dict[str, Any]:
    """One that is not special."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": token_id, "content": content, **flags}


def test_words_that_the_template_writes_are_printed_when_the_model_says_them() -> None:
    """Such as those around a tool call: an answer without them cannot be read."""
    added, new = json.loads(TOKENIZER_JSON)["added_tokens"], TOKENIZER.num_tokens
    tokenizer = make_tokenizer(
        PLAIN_TEMPLATE + "{# <tool_call> #}", added_tokens=[*added, added_token(new, "<tool_call>")]
    )
    assert new in tokenizer.control_ids
    assert new not in tokenizer.encode("<tool_call>")
    assert tokenizer.decode([new]) == "<tool_call>"


def test_a_token_of_white_space_is_text_although_the_template_has_some() -> None:
    added, new = json.loads(TOKENIZER_JSON)["added_tokens"], TOKENIZER.num_tokens
    tokenizer = make_tokenizer(
        PLAIN_TEMPLATE + "{#    #}", added_tokens=[*added, added_token(new, "    ")]
    )
    ids = tokenizer.encode("a    b")
    assert new in ids
    assert tokenizer.decode(ids) == "a    b"


def test_a_vocabulary_that_spells_a_control_token_is_outwitted() -> None:
    """The whole word is in the vocabulary, too, and would be taken from plain text."""
    hf = HfTokenizer(models.BPE({**_byte_vocabulary(), "<eos>": 256}, [], ignore_merges=True))
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    hf.decoder = decoders.ByteLevel()
    hf.add_special_tokens(["<eos>"])
    tokenizer = Tokenizer(hf.to_str(), chat_template=None, named_tokens={})
    assert 256 in tokenizer.control_ids
    assert hf.encode("<eos>").ids == [256]
    assert tokenizer.control_ids.isdisjoint(tokenizer.encode("<eos>"))
    assert tokenizer.decode(tokenizer.encode("<eos>")) == "<eos>"


def test_a_begin_token_comes_from_the_post_processor() -> None:
    post = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": SPECIAL[0], "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {SPECIAL[0]: {"id": SPECIAL[0], "ids": [0], "tokens": [SPECIAL[0]]}},
    }
    tokenizer = make_tokenizer(post_processor=post)
    assert tokenizer.encode("a") == [0, *TOKENIZER.encode("a")]
    assert tokenizer.encode("") == [0]
    assert tokenizer.encode_chat(
        [Message("user", "a")], add_generation_prompt=True
    ) == TOKENIZER.encode_chat([Message("user", "a")], add_generation_prompt=True)


def test_a_long_text_does_not_hold_up_other_threads() -> None:
    """While the tokenizer works, this thread goes on. Held up, it would get in a handful of turns at most."""
    tokenizer = load_tiny(TINY_LLAMA).tokenizer
    encoding = threading.Thread(target=lambda: tokenizer.encode("hello wörld 😀 " * 40_000))
    pause = threading.Event()
    turns = 0
    encoding.start()
    while encoding.is_alive():
        pause.wait(0.001)
        turns += 1
    assert turns > 20


def test_a_huge_text_and_broken_unicode() -> None:
    assert len(TOKENIZER.encode("the router " * 20_000)) > 20_000
    with pytest.raises(InvalidRequest) as caught:
        TOKENIZER.encode("a\ud800b")
    assert caught.value.reason is Reason.FIELD_MALFORMED


@pytest.mark.parametrize(
    ("template", "match"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[5].content }}", "refuses"),
        ("{{ 1 // 0 }}", "division"),
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}xxxxxxxxxxxx{% endfor %}{% endfor %}",
            "too much",
        ),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "refuses"),
        ("{{ messages.append(1) }}", "refuses"),
        ("{{ range(10 ** 9) | list }}", "refuses"),
        ("{{ 'a' * 1000000000 }}", "too large"),
        ("{{ [1, 2] * 1000000 }}", "too large"),
        ("{{ 10 ** 100 }}", "too large"),
    ],
)
def test_a_template_that_refuses_or_runs_wild(template: str, match: str) -> None:
    with pytest.raises(InvalidRequest, match=match) as caught:
        make_tokenizer(template).encode_chat([Message("user", "x")], add_generation_prompt=True)
    assert caught.value.reason is Reason.CHAT_TEMPLATE_REFUSED


def test_what_templates_are_given() -> None:
    template = (
        "{%- for m in messages -%}{% if loop.index > 2 %}{% break %}{% endif %}"
        "{{ m.role }}:{{ m.content | tojson }}:{{ m.name | default('nobody') }} {% endfor %}"
        "{{ bos_token }}{{ strftime_now('%Y') | length }}{{ tools is none }}"
    )
    tokenizer = make_tokenizer(template)
    messages = [Message("user", '<é"&>', "ann"), Message("assistant", "b"), Message("user", "c")]
    ids = tokenizer.encode_chat(messages, add_generation_prompt=False)
    assert shown(tokenizer, ids) == 'user:"<é\\"&>":ann assistant:"b":nobody <|endoftext|>4True'
    assert ids.count(0) == 1


def test_a_model_without_template_refuses_chats() -> None:
    tokenizer = make_tokenizer(None)
    assert not tokenizer.has_chat_template
    with pytest.raises(InvalidRequest) as caught:
        tokenizer.encode_chat([Message("user", "x")], add_generation_prompt=True)
    assert caught.value.reason is Reason.CHAT_TEMPLATE_REFUSED


def test_broken_tokenizers_and_templates_are_bad_models() -> None:
    for build in (
        lambda: make_tokenizer("{% for %}"),
        lambda: make_tokenizer(model={"type": "BPE"}),
        lambda: make_tokenizer(decoder={"type": "WordPiece", "prefix": "##", "cleanup": True}),
        lambda: make_tokenizer(decoder=None),
    ):
        with pytest.raises(BadModel) as caught:
            build()
        assert caught.value.reason is Reason.MODEL_TOKENIZER_INVALID
        assert re.match(r"(tokenizer\.json|chat_template\.jinja): ", caught.value.message)


# Detokenizer


@settings(max_examples=200, deadline=None)
@given(ids=st.lists(st.integers(0, 299), max_size=40))
def test_pieces_join_to_the_whole(ids: list[int]) -> None:
    """Any ids: broken UTF-8, control tokens in between, characters cut anywhere."""
    detokenizer = TOKENIZER.new_detokenizer()
    pieces = [detokenizer.push(token_id) for token_id in ids]
    inside = detokenizer.is_inside_character
    pieces.append(detokenizer.flush())
    assert inside == bool(pieces[-1])
    hf = HfTokenizer.from_str(TOKENIZER_JSON)
    assert "".join(pieces) == hf.decode(ids, skip_special_tokens=True) == TOKENIZER.decode(ids)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=20))
def test_characters_come_whole(text: str) -> None:
    detokenizer = TOKENIZER.new_detokenizer()
    pieces = [detokenizer.push(token_id) for token_id in TOKENIZER.encode(text)]
    assert "".join(pieces) == text
    assert all(piece == "" or piece in text for piece in pieces)
    assert detokenizer.flush() == ""


@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.integers(0, 299), max_size=20), cut=st.integers(0, 20))
def test_the_state_is_rebuilt_from_ids(ids: list[int], cut: int) -> None:
    first, second = TOKENIZER.new_detokenizer(), TOKENIZER.new_detokenizer()
    for token_id in ids[:cut]:
        first.push(token_id)
    for token_id in ids[:cut]:
        second.push(token_id)
    assert [first.push(i) for i in ids[cut:]] == [second.push(i) for i in ids[cut:]]
    assert first.flush() == second.flush()


def test_control_tokens_and_unknown_ids_print_nothing() -> None:
    detokenizer = TOKENIZER.new_detokenizer()
    assert [detokenizer.push(i) for i in (0, 1, 2, 300, 10**9, -1)] == [""] * 6
    assert TOKENIZER.token_bytes(2) == b"<|im_end|>"
    assert TOKENIZER.token_bytes(10**9) == b""


def test_sentencepiece_style_tokens() -> None:
    vocabulary = {
        "<unk>": 0,
        "▁": 1,
        "▁the": 2,
        "a": 3,
        **{f"<0x{b:02X}>": 4 + b for b in range(256)},
    }
    hf = HfTokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    hf.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    hf.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer = Tokenizer(hf.to_str(), chat_template=None, named_tokens={})
    for ids in ([2, 1, 3], [2, *(4 + b for b in "é漢".encode()), 3], [1, 2], [3, 2]):
        assert tokenizer.decode(ids) == hf.decode(ids)
    assert tokenizer.decode(tokenizer.encode("a é a")) == "a é a"


def _byte_vocabulary() -> dict[str, int]:
    return {char: at for at, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
