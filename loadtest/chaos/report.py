"""The ledger as a part of a page."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.outcome import Outcome
from chaos.scenario import Scenario
from chaos.words import VERDICTS, measured, promised
from common.errors import LeptonError

__all__ = ["failed_to_run", "page_of"]


def page_of(outcomes: Sequence[Outcome]) -> str:
    """A table with one line per run, then the controls."""
    runs = [one for one in outcomes if not one.control]
    controls = [one for one in outcomes if one.control]
    lines = ["| promise | what happens | promised | measured | verdict |", "|---|---|---|---|---|"]
    lines += [
        f"| {one.promise} | {one.title} (`{one.scenario}`) | {promised(one)} | {measured(one)} | "
        f"{_verdict(one)} |"
        for one in runs
    ]
    if controls:
        lines += ["", "With the protection switched off the same runs must fail:", ""]
        lines += ["| scenario | what was seen | verdict |", "|---|---|---|"]
        lines += [
            f"| `{one.scenario}` | {'; '.join(one.why)} | "
            f"{'fails, as it must' if one.is_right else '**does not fail**'} |"
            for one in controls
        ]
    return "\n".join(lines)


def failed_to_run(
    scenario: Scenario, group: BaseExceptionGroup[LeptonError], *, seed: int, control: bool
) -> Outcome:
    """A run that did not come about: void, and why."""
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return Outcome(
        scenario=scenario.name,
        promise=scenario.promise,
        title=scenario.title,
        seed=seed,
        control=control,
        verdict="void",
        why=(str(first),),
        measures={},
        expect=scenario.expect,
        errors={},
    )


def _verdict(outcome: Outcome) -> str:
    if outcome.verdict == "pass":
        return VERDICTS["pass"]
    return f"**{VERDICTS[outcome.verdict].lower()}**: {'; '.join(outcome.why)}"
