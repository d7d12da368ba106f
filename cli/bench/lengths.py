"""How long prompts and answers are, in tokens: a number, or a distribution to draw from.

128               always 128                         (fixed:128 says the same)
uniform:16-256    every length from 16 to 256 alike
lognormal:128,0.5 median 128, sigma 0.5 of the logarithm: most are short, some are long; at most 16 times the median
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from common.errors import InvalidRequest, Reason

__all__ = ["Lengths", "parse_lengths"]

_LENGTH_MAX: Final = 1 << 20
_TAIL_MAX: Final = 16
"""A lognormal length is at most that many medians."""
_FORM: Final = re.compile(
    r"(?:fixed:)?(?P<fixed>\d+)|uniform:(?P<low>\d+)-(?P<high>\d+)"
    r"|lognormal:(?P<median>\d+),(?P<sigma>\d+(?:\.\d+)?)"
)


@dataclass(frozen=True, slots=True)
class Lengths:
    """A distribution over whole numbers from 1 on."""

    text: str
    """As it was written."""
    draw: Callable[[random.Random], int]
    """One length."""
    max: int
    """Longest that can come."""

    def __str__(self) -> str:
        return self.text


def parse_lengths(text: str, *, field: str) -> Lengths:
    """Raises `InvalidRequest(FIELD_MALFORMED)` naming `field`."""
    form = _FORM.fullmatch(text)
    if form is None:
        raise _malformed(text, field)
    found = form.groupdict()
    if found["fixed"]:
        low = high = int(found["fixed"])
    elif found["low"]:
        low, high = int(found["low"]), int(found["high"])
    else:
        return _lognormal(text, int(found["median"]), float(found["sigma"]), field)
    if not 1 <= low <= high <= _LENGTH_MAX:
        raise _malformed(text, field)
    return Lengths(text, lambda rng: rng.randint(low, high), high)


def _lognormal(text: str, median: int, sigma: float, field: str) -> Lengths:
    longest = median * _TAIL_MAX
    if not 1 <= median <= longest <= _LENGTH_MAX or sigma > math.log(_TAIL_MAX):
        raise _malformed(text, field)

    def draw(rng: random.Random) -> int:
        return max(1, min(longest, round(rng.lognormvariate(math.log(median), sigma))))

    return Lengths(text, draw, longest)


def _malformed(text: str, field: str) -> InvalidRequest:
    return InvalidRequest(
        f"--{field} {text!r}: write 128, uniform:16-256 or lognormal:128,0.5 (median, sigma), from 1 to {_LENGTH_MAX}",
        reason=Reason.FIELD_MALFORMED,
        field=field,
    )
