"""Engines in processes of their own, measured in turns: round by round, each measure by all of them before the next.

Machines drift by a factor of two within an hour, so figures of two engines are only compared within one round.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, final

import numpy as np

from common.errors import Reason, Unavailable
from loadtest.engines.api import random_prompts
from loadtest.engines.exactness import Reference, logit_error
from loadtest.engines.result import Figure, Measure

__all__ = ["Contestant", "Plan", "run_contest"]

ROOT = Path(__file__).resolve().parents[2]
VOCAB_SIZE = 300
"""Prompts use ids below it, which every model has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One engine with one model."""

    label: str
    engine: str
    model: Path
    python: Path = Path(sys.executable)
    """Of the environment in which the engine is installed."""
    provider: str = ""
    """Where ours computes; empty: on the CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured."""

    measures: tuple[Measure, ...]
    rounds: int
    threads: int
    prompt_tokens: int
    """Of each stream before it decodes."""
    tokens: int
    """Decoded by each stream."""
    context_max: int

    @property
    def rows_max(self) -> int:
        """Most streams."""
        return max((m.size for m in self.measures if m.kind == "decode"), default=1)


SETTLE_S: Final = 0.3
"""Between two turns: threads of the engine before may still look for work, or free what they had."""
PREFILLS: Final = 3
"""Prompts in a row, of which the fastest counts: one alone takes less time than a machine needs to wake up."""


def run_contest(
    contestants: Sequence[Contestant],
    plan: Plan,
    progress: Callable[[str], None],
    reference: Reference | None = None,
) -> tuple[list[Figure], dict[str, dict[str, Any]]]:
    """All figures, and what each engine said of itself: its memory at the end, and how far its logits are from those
    of the reference, included.

    Raises `Unavailable(PROCESS_FAILED)` when an engine cannot serve its model or falls; in the latter case its stderr
    has been shown.
    """
    figures: list[Figure] = []
    with ExitStack() as stack:
        engines = {one.label: stack.enter_context(_started(one, plan)) for one in contestants}
        for number in range(plan.rounds + 1):
            for measure in plan.measures:
                for label in _turn(list(engines), number):
                    name = f"round {number} of {plan.rounds}" if number else "warm-up"
                    progress(f"{name}: {measure}, {label}")
                    rate, details = _measure(engines[label], measure, plan, seed=number)
                    if number:
                        figures.append(
                            Figure(
                                label=label,
                                measure=measure,
                                round=number,
                                tokens_per_s=rate,
                                details=details,
                            )
                        )
        facts = {
            label: {**engine.facts, **engine.ask({"do": "memory"})}
            for label, engine in engines.items()
        }
        for label, engine in engines.items() if reference else ():
            progress(f"logits of {label}")
            facts[label]["logit_error"] = _error(engine, reference)
    return figures, facts


def _error(engine: _Process, reference: Reference) -> float | None:
    """None when there is no way to it: a long measurement does not end for the sake of this number."""
    with TemporaryDirectory(prefix="lepton-logits-") as folder:
        file = Path(folder) / "logits.npy"
        wish = {"do": "logits", "prompts": reference.prompts, "file": str(file)}
        try:
            answer = engine.ask(wish)
        except (OSError, Unavailable) as error:
            answer = {"cannot": str(error)}
        if "cannot" in answer:
            print(f"logits not measured: {answer['cannot']}", file=sys.stderr)
            return None
        return logit_error(np.load(file), reference.logits)


def _turn(labels: list[str], number: int) -> list[str]:
    """Who begins changes from round to round."""
    first = number % len(labels)
    return labels[first:] + labels[:first]


def _measure(
    engine: _Process, measure: Measure, plan: Plan, *, seed: int
) -> tuple[float, dict[str, Any]]:
    threading.Event().wait(SETTLE_S)
    if measure.kind == "prefill":
        answers = [
            engine.ask({"do": "prefill", "prompt": prompt})
            for prompt in random_prompts(PREFILLS, measure.size, vocab_size=VOCAB_SIZE, seed=seed)
        ]
        best = min(answers, key=lambda answer: answer["seconds"])
        return measure.size / best["seconds"], best
    prompts = random_prompts(measure.size, plan.prompt_tokens, vocab_size=VOCAB_SIZE, seed=seed)
    answer = engine.ask({"do": "decode", "prompts": prompts, "tokens": plan.tokens})
    return answer["tokens_per_s"], answer


@contextmanager
def _started(contestant: Contestant, plan: Plan) -> Iterator[_Process]:
    command = [
        *(str(contestant.python), "-m", "loadtest.engines.serve"),
        *(contestant.engine, str(contestant.model), "--threads", str(plan.threads)),
        *("--rows-max", str(plan.rows_max), "--context-max", str(plan.context_max)),
        *(("--provider", contestant.provider) if contestant.provider else ()),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=ROOT
    ) as process:
        try:
            yield _Process(process, contestant.label)
        finally:
            if process.stdin is not None:
                process.stdin.close()


@final
class _Process:
    """A line out, a line in."""

    def __init__(self, process: subprocess.Popen[str], label: str) -> None:
        self._process = process
        self._label = label
        self.facts = self._read()
        if "cannot" in self.facts:
            raise self._failed(self.facts["cannot"])

    def ask(self, wish: dict[str, Any]) -> dict[str, Any]:
        print(json.dumps(wish), file=self._process.stdin)
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise self._failed(f"the engine ended with {self._process.wait()}; see above")
        return dict(json.loads(line))

    def _failed(self, why: str) -> Unavailable:
        return Unavailable(f"{self._label}: {why}", reason=Reason.PROCESS_FAILED)
