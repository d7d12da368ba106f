"""The generators of the demo model's text: right answers, and nothing of the test in training."""

import json
import random

import pytest

from training.demo import heldout
from training.demo.chat import TEMPLATE, render
from training.demo.data import arithmetic, dialogues, extraction, facts, splits, words
from training.demo.data.dialogues import Chat
from training.demo.data.exchange import Exchange
from training.demo.data.system_prompts import SystemPrompt


def test_same_seed_gives_the_same_text():
    assert heldout.items(6) == heldout.items(6)


def test_every_task_has_as_many_items_as_asked():
    made = heldout.items(10)
    for task in (*dialogues.TASKS, "second_turn", "system_prompt"):
        assert sum(item.task == task for item in made) == 10


def test_operands_in_either_order_are_in_one_split():
    for a in range(100):
        assert splits.pair_split(a, 7) == splits.pair_split(7, a)


@pytest.mark.parametrize("draw", [words.name, words.city, words.item, words.thing])
def test_entities_of_the_splits_are_disjoint(draw):
    rng = random.Random(3)
    train = {draw(rng, "train") for _ in range(2000)}
    test = {draw(rng, "test") for _ in range(200)}
    assert not train & test


def test_operand_pairs_of_the_splits_are_disjoint():
    rng = random.Random(4)
    seen = {tuple(sorted(splits.draw_pair(rng, "train", 10, 99))) for _ in range(3000)}
    held_out = {tuple(sorted(splits.draw_pair(rng, "test", 10, 99))) for _ in range(300)}
    assert not seen & held_out


def test_a_frame_in_both_splits_is_refused():
    with pytest.raises(ValueError, match="both splits"):
        splits.Frames(train=("a", "b"), test=("b",))


def test_facts_ask_differently_in_the_test():
    for fact in facts.FACTS:
        assert not set(fact.ask) & set(fact.test)
        assert fact.topic or (fact.ask and fact.test)


@pytest.mark.parametrize("split", ["train", "test"])
def test_sums_are_right(split):
    rng = random.Random(5)
    for _ in range(200):
        left, result = arithmetic.sample(rng, split).answer.split(" = ")
        a, operator, b = left.split()
        expected = {"+": int(a) + int(b), "-": int(a) - int(b), "x": int(a) * int(b)}
        assert int(result) == expected[operator]


def test_extracted_values_stand_in_the_sentence():
    rng = random.Random(6)
    for _ in range(200):
        exchange = extraction.sample(rng, "test")
        for value in json.loads(exchange.answer).values():
            assert str(value) in exchange.question


def test_a_system_prompt_styles_every_answer():
    chat = Chat(SystemPrompt("prefix", "Start every answer with Ahoy:", "Ahoy"))
    chat.add(Exchange(task="sentiment", question="…", answer="positive"))
    assert chat.messages()[-1]["content"] == "Ahoy: positive"


def test_one_word_prompts_refuse_answers_without_one():
    chat = Chat(SystemPrompt("one_word", "Answer with one word only."))
    assert chat.add(Exchange(task="summary", question="…", answer="A sentence.")) is None


@pytest.mark.parametrize("generation", [True, False])
def test_template_and_packing_write_the_same_text(generation):
    jinja2 = pytest.importorskip("jinja2")
    messages = dialogues.obeyed(random.Random(7), "train", "upper")
    template = jinja2.Environment(autoescape=False).from_string(TEMPLATE)
    rendered = template.render(messages=messages, add_generation_prompt=generation)
    assert rendered == render(messages, add_generation_prompt=generation)
