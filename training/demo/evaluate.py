"""Measure an exported model on the held-out questions: exact match, greedy, one row at a time.

`python -m training.demo.evaluate models/demo --each 200 --out result.json`

Needs onnxruntime, numpy, tokenizers and jinja2; no PyTorch. The prompt is written with the folder's
own chat template, so a wrong template shows here.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from training.demo import heldout
from training.demo.data.dialogues import Message

NEW_TOKENS_MAX = 120


class Model:
    """An exported folder, ready to answer greedily."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]
        eos = config["eos_token_id"]
        self._eos = set(eos) if isinstance(eos, list) else {eos}
        decoder = config["decoder"]
        self._past = {
            name.format(layer): np.zeros(
                (1, decoder["num_key_value_heads"], 0, decoder["head_size"]), np.float32
            )
            for layer in range(decoder["num_hidden_layers"])
            for name in ("past_key_values.{}.key", "past_key_values.{}.value")
        }
        text = (folder / "tokenizer_config.json").read_text(encoding="utf-8")
        environment = jinja2.Environment(autoescape=False)  # noqa: S701 - prompts, not pages
        self._template = environment.from_string(json.loads(text)["chat_template"])

    def answer(self, messages: Sequence[Message], tokens_max: int = NEW_TOKENS_MAX) -> str:
        """Answer the messages greedily."""
        prompt = self._template.render(messages=messages, add_generation_prompt=True)
        ids = self.tokenizer.encode(prompt, add_special_tokens=False).ids
        return self.tokenizer.decode(self.generate(ids, tokens_max))

    def generate(self, prompt: list[int], tokens_max: int) -> list[int]:
        """Give the most likely continuation, without the end token."""
        past, step, made, length = dict(self._past), prompt, [], 0
        while len(made) < tokens_max:
            length += len(step)
            logits, *present = self._session.run(
                ["logits", *(name.replace("past_key_values", "present") for name in past)],
                {
                    "input_ids": np.array([step], np.int64),
                    "attention_mask": np.ones((1, length), np.int64),
                    **past,
                },
            )
            token = int(logits[0, -1].argmax())
            if token in self._eos:
                break
            made.append(token)
            step = [token]
            past = dict(zip(past, present, strict=True))
        return made


def measure(
    model: Model, items: Sequence[heldout.Item], failures: list[dict[str, str]] | None = None
) -> dict[str, dict[str, int]]:
    """Count the right answers: task → n and right; sorts within a task as `task/sort`."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: {"n": 0, "right": 0})
    for item in items:
        answer = model.answer(item.messages)
        for key in {item.task, f"{item.task}/{item.kind}" if item.kind else item.task}:
            counts[key]["n"] += 1
            counts[key]["right"] += answer == item.expected
        if failures is not None and answer != item.expected:
            question = " | ".join(message["content"] for message in item.messages[-5:])
            failures.append(
                {
                    "task": f"{item.task}/{item.kind}",
                    "question": question,
                    "expected": item.expected,
                    "answer": answer,
                }
            )
    return dict(sorted(counts.items()))


def main() -> None:
    """Measure one folder, print a line for each task, and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--each", type=int, default=200)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--failures", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    began = time.monotonic()
    failures: list[dict[str, str]] = []
    model = Model(arguments.folder, arguments.threads)
    counts = measure(model, heldout.items(arguments.each), failures)
    for key, count in counts.items():
        share = count["right"] / count["n"]
        print(f"{key:28} {count['right']:4} of {count['n']:4}  {share:6.1%}")
    print(f"{time.monotonic() - began:.0f} s")
    if arguments.out:
        arguments.out.write_text(json.dumps(counts, indent=2) + "\n", encoding="utf-8")
    if arguments.failures:
        lines = [json.dumps(failure, ensure_ascii=False) for failure in failures]
        arguments.failures.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
