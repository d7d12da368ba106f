"""A contest's result → plots as files, and the part of a page that shows tables and plots together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cli.plot.bars import Bars, bar_chart
from cli.plot.frame import document
from cli.plot.lines import Line, line_chart
from loadtest.engines.report import errors_of, groups, rule, tables
from loadtest.engines.result import Measure, Result

__all__ = ["page_part", "write_plots"]

LINE_POINTS_MIN = 3


def page_part(result: Result, page: Path, data: Path) -> str:
    """Markdown for `page`: machine, method, tables, plots. Plots and figures are written beside `data`."""
    plots = write_plots(result, data)
    facts = {**result.machine, "threads of each engine": str(result.plan["threads"])}
    parts = [
        f"{result.title}. " + "; ".join(f"{name}: {value}" for name, value in facts.items()) + ".",
        _method(result),
        *([rule(result)] if result.others else []),
        "\n".join(f"![{plot.stem}]({_relative(plot, page)})" for plot in plots),
        *(table.markdown() for table in tables(result)),
        _versions(result),
        f"All figures: [{data.name}]({_relative(data, page)}).",
    ]
    return "\n\n".join(part for part in parts if part)


def write_plots(result: Result, data: Path) -> list[Path]:
    """SVG files named after `data`, beside it."""
    data.parent.mkdir(parents=True, exist_ok=True)
    charts: dict[str, str] = {}
    found = groups(result)
    for number, labels in enumerate(((*ours, *others) for ours, others in found), start=1):
        for kind in ("decode", "prefill"):
            if measures := [m for m in result.measures if m.kind == kind]:
                name = kind if len(found) == 1 else f"{kind}-{number}"
                charts[name] = _rates(result, measures, labels, kind)
    if any(result.competitors(label) for label in result.ours):
        charts["ratios"] = _ratios(result)
    files = []
    for name, chart in charts.items():
        file = data.with_name(f"{data.stem}-{name}.svg")
        file.write_text(document(chart), "utf-8")
        files.append(file)
    return files


def _rates(result: Result, measures: list[Measure], labels: Sequence[str], kind: str) -> str:
    """Lines where there are enough sizes for a line, else bars."""
    what = {"decode": ("Decoding", "streams"), "prefill": ("Prompts", "tokens of the prompt")}[kind]
    said = {
        "title": f"{what[0]}, tokens/s{errors_of(result, labels)} (bar: least to most)",
        "x_label": what[1],
        "y_label": "tokens/s",
    }
    if len(measures) < LINE_POINTS_MIN:
        bars = [
            Bars(
                name=label,
                values=[result.rate(label, measure) for measure in measures],
                spread=[result.range(label, measure) for measure in measures],
            )
            for label in labels
        ]
        return bar_chart([f"{measure.size:,}" for measure in measures], bars, **said)
    lines = [
        Line(
            name=label,
            points=[(measure.size, result.rate(label, measure)) for measure in measures],
            spread=[result.range(label, measure) for measure in measures],
            dashed=label in result.others,
        )
        for label in labels
    ]
    return line_chart(lines, x_ticks=[measure.size for measure in measures], x_log=True, **said)


def _ratios(result: Result) -> str:
    bars = []
    for label in result.ours:
        found = [result.standing(label, measure) for measure in result.measures]
        if any(found):
            bars.append(
                Bars(
                    name=label,
                    values=[one.ratio if one else None for one in found],
                    spread=[(one.low, one.high) if one else None for one in found],
                )
            )
    return bar_chart(
        [str(measure) for measure in result.measures],
        bars,
        title="Ours over the best other engine of similar error",
        x_label="above the dashed line: ours is faster",
        y_label="ratio",
        mark=1.0,
    )


def _method(result: Result) -> str:
    plan = result.plan
    return (
        f"{plan['rounds']} rounds after one that warms up; engines take turns within each measure of each round, "
        f"and ratios are taken within a round. Decoding: every stream has a prompt of {plan['prompt_tokens']} tokens "
        f"and gets {plan['tokens']}, greedily; counted while all of them decode. Prompts: from handing one over to its "
        "first token."
    )


def _versions(result: Result) -> str:
    said = dict.fromkeys(f"{facts['name']} {facts['version']}" for facts in result.facts.values())
    return "Versions: " + "; ".join(said) + "."


def _relative(file: Path, page: Path) -> str:
    return Path(os.path.relpath(file, page.parent)).as_posix()
