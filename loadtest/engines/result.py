"""What a contest found, as data: everything that tables, plots and pages are made of. Kept as JSON beside the plots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from loadtest.engines.exactness import compete_with

__all__ = ["Figure", "Measure", "Result", "Standing"]


@dataclass(frozen=True, slots=True, order=True)
class Measure:
    """What is measured: `decode` at `size` streams, or `prefill` of `size` tokens."""

    kind: str
    size: int

    def __str__(self) -> str:
        return f"{self.kind} {self.size}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measurement."""

    label: str
    measure: Measure
    round: int
    """From 1; round 0 warms up and is not kept."""
    tokens_per_s: float
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Standing:
    """One of ours beside the best of those it competes with, in one measure: median and range of the rounds' ratios."""

    ratio: float
    low: float
    high: float
    best: str
    """Label of the best other, by its median."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A whole contest."""

    title: str
    ours: tuple[str, ...]
    others: tuple[str, ...]
    facts: dict[str, dict[str, Any]]
    """Label → what the engine said of itself (`Facts`), its memory (`rss`, `peak`, `loaded_rss`) and `logit_error`."""
    figures: tuple[Figure, ...]
    plan: dict[str, Any]
    """Rounds, threads, prompt and answer lengths."""
    machine: dict[str, str]

    @property
    def measures(self) -> tuple[Measure, ...]:
        """In the order in which they were measured."""
        return tuple(dict.fromkeys(figure.measure for figure in self.figures))

    def rate(self, label: str, measure: Measure) -> float:
        """Median tokens per second over the rounds."""
        return median(self._rates(label, measure).values())

    def range(self, label: str, measure: Measure) -> tuple[float, float]:
        """Least and most tokens per second over the rounds."""
        rates = self._rates(label, measure).values()
        return min(rates), max(rates)

    def detail(self, label: str, measure: Measure, name: str) -> float | None:
        """Median over the rounds of a number that the engine gave with its figure; None when it gave none."""
        found = [
            value
            for figure in self.figures
            if (figure.label, figure.measure) == (label, measure)
            and (value := figure.details.get(name)) is not None
        ]
        return median(found) if found else None

    def error(self, label: str) -> float | None:
        """Of its logits, see `exactness`; None when it was not measured."""
        return self.facts[label].get("logit_error")

    def competitors(self, label: str) -> tuple[str, ...]:
        """Other engines' rows with which one of ours competes."""
        errors = {one: self.error(one) for one in (*self.ours, *self.others)}
        return compete_with(label, self.others, errors)

    def standing(self, label: str, measure: Measure) -> Standing | None:
        """None when nobody competes."""
        others = self.competitors(label)
        if not others:
            return None
        found = self.ratios(measure, label, others)
        best = max(others, key=lambda other: self.rate(other, measure))
        return Standing(median(found), min(found), max(found), best)

    def ratios(self, measure: Measure, label: str, others: Sequence[str]) -> list[float]:
        """Of each round: `label`'s rate over the best rate of `others` (at least one) in that round."""
        rates = {one: self._rates(one, measure) for one in (label, *others)}
        return [
            rate / max(rates[other][number] for other in others)
            for number, rate in rates[label].items()
        ]

    def write(self, file: Path) -> None:
        """As JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")

    @classmethod
    def read(cls, file: Path) -> Result:
        """What `write` wrote."""
        data = json.loads(file.read_text("utf-8"))
        data["figures"] = tuple(
            Figure(**{**one, "measure": Measure(**one["measure"])}) for one in data["figures"]
        )
        return cls(**{**data, "ours": tuple(data["ours"]), "others": tuple(data["others"])})

    def _rates(self, label: str, measure: Measure) -> dict[int, float]:
        return {
            figure.round: figure.tokens_per_s
            for figure in self.figures
            if (figure.label, figure.measure) == (label, measure)
        }
