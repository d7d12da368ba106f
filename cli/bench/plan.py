"""What was written on the command line → loads that can be run. Everything wrong is refused here, before a request."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from cli.bench.lengths import Lengths, parse_lengths
from cli.bench.run import Load
from cli.bench.slo import Slo, parse_slo
from cli.bench.workload import PROMPTS, Workload
from cli.request import GenerateOptions
from common.errors import InvalidRequest, Reason

__all__ = ["Plan", "Wish", "make_plan"]

_CALLERS: Final = "1,4,8"
_MAX_TOKENS: Final = 64
_CONCURRENCY_MAX: Final = 10_000
_RATE_MAX: Final = 100_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The options as they were given, None where they were not; texts are not yet understood."""

    concurrency: str | None
    rate: str
    requests: int
    warmup: int
    in_flight_max: int
    timeout_s: float
    prompts: tuple[str, ...]
    raw: bool
    prompt_tokens: str
    shared_prefix_tokens: int
    prefix_groups: int
    max_tokens: int | None
    ignore_eos: bool
    output_tokens: str
    cancel_share: float
    seed: int
    model: str
    slo: str
    direct: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Loads, run one after the other."""

    loads: tuple[Load, ...]
    warmup: Load | None
    """Before the first of them, and not counted."""
    slo: Slo | None

    def with_vocabulary(self, ids: tuple[int, ...]) -> Plan:
        """The same with prompts drawn from `ids`."""

        def drawn(load: Load) -> Load:
            return replace(load, workload=replace(load.workload, vocabulary=ids))

        return replace(
            self,
            loads=tuple(drawn(load) for load in self.loads),
            warmup=drawn(self.warmup) if self.warmup else None,
        )

    @property
    def needs_vocabulary(self) -> bool:
        """Whether prompts are made of token ids."""
        return self.loads[0].workload.prompt_tokens is not None

    @property
    def seed(self) -> int:
        """From which everything is drawn."""
        return self.loads[0].workload.seed

    @property
    def model(self) -> str:
        """That is asked; empty: the only one."""
        return self.loads[0].options.model


def make_plan(wish: Wish) -> Plan:
    """Raises `InvalidRequest(FIELD_MALFORMED)` naming the option."""
    if wish.shared_prefix_tokens and not wish.prompt_tokens:
        raise InvalidRequest(
            "--shared-prefix-tokens needs --prompt-tokens, the length of what follows",
            reason=Reason.FIELD_MALFORMED,
            field="shared-prefix-tokens",
        )
    _check_contradictions(wish)
    workload = Workload(
        seed=wish.seed,
        texts=wish.prompts or PROMPTS,
        raw=wish.raw,
        prompt_tokens=_lengths(wish.prompt_tokens, "prompt-tokens"),
        shared_prefix_tokens=wish.shared_prefix_tokens,
        prefix_groups=wish.prefix_groups,
        max_tokens=wish.max_tokens or _MAX_TOKENS,
        output_tokens=_lengths(wish.output_tokens, "output-tokens"),
        cancel_share=wish.cancel_share,
    )
    ignores_eos = wish.ignore_eos or bool(wish.output_tokens)
    base = Load(
        requests=wish.requests,
        in_flight_max=wish.in_flight_max,
        workload=workload,
        options=GenerateOptions(model=wish.model, ignore_eos=ignores_eos or None),
        timeout_s=wish.timeout_s,
        direct=wish.direct,
    )
    loads = (
        tuple(replace(base, rate=rate) for rate in _rates(wish.rate))
        if wish.rate
        else tuple(
            replace(base, concurrency=callers, requests=max(wish.requests, callers))
            for callers in _callers(_CALLERS if wish.concurrency is None else wish.concurrency)
        )
    )
    # Requests of their own, so that no measured prompt is known already.
    warm = replace(workload, seed=~workload.seed, cancel_share=0.0)
    return Plan(
        loads=loads,
        warmup=replace(base, requests=wish.warmup, concurrency=wish.warmup, workload=warm)
        if wish.warmup
        else None,
        slo=parse_slo(wish.slo) if wish.slo else None,
    )


def _check_contradictions(wish: Wish) -> None:
    """Of two options that cannot both hold neither is dropped silently."""
    for one, there, other, also in (
        ("rate", wish.rate, "concurrency", wish.concurrency),
        ("prompt-tokens", wish.prompt_tokens, "prompt", wish.prompts),
        ("output-tokens", wish.output_tokens, "max-tokens", wish.max_tokens),
    ):
        if there and also:
            raise InvalidRequest(
                f"--{one} and --{other} contradict each other; leave one of them out",
                reason=Reason.FIELDS_CONTRADICT,
                field=one,
            )


def _lengths(text: str, field: str) -> Lengths | None:
    return parse_lengths(text, field=field) if text else None


def _callers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1 or max(numbers) > _CONCURRENCY_MAX:
        raise InvalidRequest(
            f"--concurrency {text!r}: write numbers from 1 to {_CONCURRENCY_MAX}, for example 1,4,8",
            reason=Reason.FIELD_MALFORMED,
            field="concurrency",
        )
    return numbers


def _rates(text: str) -> list[float]:
    try:
        rates = [float(part) for part in text.split(",")]
    except ValueError:
        rates = []
    if not rates or not all(math.isfinite(rate) and 0 < rate <= _RATE_MAX for rate in rates):
        raise InvalidRequest(
            f"--rate {text!r}: write requests per second, above 0 and up to {_RATE_MAX:g}, for example 2,4,8",
            reason=Reason.FIELD_MALFORMED,
            field="rate",
        )
    return rates
