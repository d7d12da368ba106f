"""The test set: questions that share no operand pair, entity or sentence frame with training.

`python -m training.demo.heldout models/demo/eval/heldout.jsonl --each 40`
"""

import argparse
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from training.demo.data import dialogues

SEED = 50_000
"""Changed when answers to the questions of the last seed were read: a figure is for questions nobody has seen."""
LONG_CHAT_TURNS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One question to the model and the answer that counts as right, to the letter."""

    task: str
    messages: tuple[dialogues.Message, ...]
    expected: str
    kind: str = ""
    """Within second turns and system prompts: which sort."""


def items(each: int, seed: int = SEED) -> list[Item]:
    """Make `each` items of every task; the same ones for the same seed."""
    made = []
    for task in dialogues.TASKS:
        made += _distinct(each, _single(task, random.Random(f"{seed}{task}")))
    made += _distinct(each, _second_turn(random.Random(f"{seed}second")))
    made += _distinct(each, _system_prompt(random.Random(f"{seed}system")))
    made += _distinct(each // 2, _long_chat(random.Random(f"{seed}long")))
    return made


def _distinct(count: int, candidates: Iterable[Item]) -> list[Item]:
    """Take `count` different items; give up gracefully where a task has fewer."""
    seen: dict[str, Item] = {}
    for tried, item in enumerate(candidates):
        seen.setdefault(json.dumps(item.messages), item)
        if len(seen) == count or tried > 50 * count:
            break
    return list(seen.values())


def _single(task: str, rng: random.Random) -> Iterator[Item]:
    while True:
        exchange = dialogues.TASKS[task](rng, "test")
        messages = ({"role": "user", "content": exchange.question},)
        yield Item(task=task, messages=messages, expected=exchange.answer)


def _second_turn(rng: random.Random) -> Iterator[Item]:
    while True:
        for kind in dialogues.SECOND_TURNS:
            yield _item("second_turn", kind, dialogues.second_turn(rng, "test", kind))


def _system_prompt(rng: random.Random) -> Iterator[Item]:
    while True:
        for style in dialogues.OBEYED:
            yield _item("system_prompt", style, dialogues.obeyed(rng, "test", style))


def _long_chat(rng: random.Random) -> Iterator[Item]:
    """Ask something simple at the end of a chat of a dozen turns."""
    while True:
        system, turns = dialogues.walk(rng, "test")
        if system:
            continue
        chat = dialogues.Chat()
        for exchange, _ in zip(turns, range(LONG_CHAT_TURNS), strict=False):
            chat.exchanges.append(exchange)
        yield _item("long_chat", chat.exchanges[-1].task, chat.messages())


def _item(task: str, kind: str, messages: list[dialogues.Message]) -> Item:
    *asked, answer = messages
    return Item(task=task, kind=kind, messages=tuple(asked), expected=answer["content"])


def main() -> None:
    """Write a test set as lines of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--each", type=int, default=40)
    arguments = parser.parse_args()
    arguments.file.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(asdict(item), ensure_ascii=False) for item in items(arguments.each)]
    arguments.file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} items, {arguments.file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
