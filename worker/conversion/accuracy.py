"""What rounding cost: a quantised model beside the fp32 one that it was made of, on the same texts.

    rms error   root mean square of the difference of the logits, over the standard deviation of the fp32 logits
    top-1       share of positions at which both have the same most likely token
    perplexity  exp of the mean negative log likelihood of the next token of the text; their ratio is the cost

The positions are all those of `worker.conversion.texts`, cut to `TOKENS_MAX` tokens a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from worker.conversion.forms import Forms
from worker.conversion.texts import TEXTS

__all__ = ["Accuracy", "compare", "measure"]

TOKENS_MAX: Final = 256
"""Of one text: bounds time and memory (six texts of a vocabulary of 256,000 take 1.6 GB)."""

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """One form of a model against its reference."""

    num_tokens: int
    """Positions compared."""
    rms_error: float
    """Over the standard deviation of the reference; 0 is no difference."""
    top1_agreement: float
    """From 0 to 1."""
    perplexity: float
    reference_perplexity: float
    perplexity_ratio: float
    """Above 1 the text surprises the model more than the reference."""

    def record(self) -> dict[str, Any]:
        return asdict(self)


def measure(reference: Path, folder: Path) -> dict[str, Accuracy]:
    """Each form of the model in `folder` against the one in `reference`, which has the same tokenizer.

    Raises `BadModel` for a folder that a worker would refuse.
    """
    texts, expected = _reference(reference)
    forms = Forms(folder)
    return {
        name: compare(texts, expected, [forms.logits(name, ids) for ids in texts])
        for name in forms.names
    }


def _reference(folder: Path) -> tuple[list[list[int]], list[Logits]]:
    """The texts as ids and their logits. The model is closed on return, before the other takes its memory."""
    forms = Forms(folder)
    size = min(TOKENS_MAX, forms.config.context_length)
    texts = [forms.tokenizer.encode(text)[:size] for text in TEXTS]
    form, *_ = forms.names
    return texts, [forms.logits(form, ids) for ids in texts]


def compare(
    texts: Sequence[Sequence[int]], reference: Sequence[Logits], found: Sequence[Logits]
) -> Accuracy:
    """`reference` and `found`: logits [tokens, vocab] of each text of `texts`, all finite."""
    squares = sum(
        float(np.square(a - b, dtype=np.float64).sum()) for a, b in _pairs(reference, found)
    )
    numbers = sum(one.size for one in reference)
    deviation = float(np.concatenate([one.ravel() for one in reference]).std(dtype=np.float64))
    agreed = sum(int((a.argmax(-1) == b.argmax(-1)).sum()) for a, b in _pairs(reference, found))
    num_tokens = sum(len(one) for one in reference)
    surprise, usual = _surprise(texts, found), _surprise(texts, reference)
    return Accuracy(
        num_tokens=num_tokens,
        rms_error=float(np.sqrt(squares / numbers)) / max(deviation, 1e-12),
        top1_agreement=agreed / num_tokens,
        perplexity=float(np.exp(surprise)),
        reference_perplexity=float(np.exp(usual)),
        perplexity_ratio=float(np.exp(surprise - usual)),
    )


def _pairs(a: Sequence[Logits], b: Sequence[Logits]) -> zip[tuple[Logits, Logits]]:
    return zip(a, b, strict=True)


def _surprise(texts: Sequence[Sequence[int]], logits: Sequence[Logits]) -> float:
    """Mean negative log likelihood of each token but the first, in nats."""
    losses = []
    for ids, rows in zip(texts, logits, strict=True):
        before, after = rows[:-1].astype(np.float64), np.asarray(ids[1:])
        largest = before.max(-1, keepdims=True)
        total = np.log(np.exp(before - largest).sum(-1)) + largest[:, 0]
        losses.append(total - before[np.arange(len(after)), after])
    return float(np.concatenate(losses).mean())
