"""The report as one HTML file: no script, nothing fetched, readable on a phone, in light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from cli.bench.report import CURVES, Report
from cli.bench.spread import Spread
from cli.plot.frame import PALETTE_CSS, TEXT_CSS
from cli.plot.lines import Line, line_chart

__all__ = ["report_page"]

_CSS: Final = (
    "*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);"
    "font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}"
    "main{max-width:72rem;margin:auto;padding:1.2rem}h1{font-size:1.5rem;margin:.4rem 0}"
    "h2{font-size:1.15rem;margin:2rem 0 .6rem}p,dd{color:var(--soft);margin:.3rem 0}dt{font-weight:600}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;white-space:nowrap}"
    "th,td{padding:.3rem .7rem;text-align:right;border-bottom:1px solid var(--line)}"
    "th{color:var(--soft);font-weight:500}th:first-child,td:first-child{text-align:left;padding-left:0}"
    ".plots{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,30rem),1fr))}"
    ".facts{display:grid;grid-template-columns:max-content 1fr;gap:0 1rem;margin:0}.facts dt{font-weight:400}"
    ".facts dd{margin:0;overflow-wrap:anywhere}.facts dt{color:var(--soft)}.facts dd{color:var(--ink)}"
    "th.group{text-align:center}"
    "svg{width:100%;height:auto;border:1px solid var(--line);border-radius:8px}"
)

_DEFINITIONS: Final = (
    ("TTFT", "time to first token. Closed loop: from sending. Open loop: from the planned arrival, so that waiting "
             "in the client counts too; the column “from sending” leaves that out."),
    ("TPOT", "time per output token after the first: (end - first token) / (tokens - 1), one value per request."),
    ("ITL", "inter-token latency: every gap between two messages with tokens, all requests together."),
    ("E2EL", "to the end of the answer, counted as TTFT is."),
    ("tokens/s", "completion tokens of all requests that did not fail, by the duration of the run."),
    ("goodput", "requests per second that worked and kept every bound of the objective."),
)  # fmt: skip

_OVER_TIME: Final = {"in_flight": "Requests in flight", "tokens": "Tokens per second over time"}
_NAMES: Final = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2el": "E2EL"}


def report_page(
    reports: Sequence[Report], *, title: str, facts: Mapping[str, str], slo: str
) -> str:
    """A whole document. `facts`: what was measured and where, name → value."""
    failed = [(one, reason, count) for one in reports for reason, count in one.errors.items()]
    body = [
        f"<h1>{escape(title)}</h1>",
        '<dl class="facts">',
        *(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items()),
        "</dl>",
        "<h2>Throughput</h2>",
        _throughput(reports, slo),
        "<h2>Latency, ms</h2>",
        _latency(reports),
        *(
            ["<h2>Errors</h2>", _errors(failed)]
            if failed
            else ["<p>No request failed.</p>"]
        ),
        '<h2>Plots</h2><div class="plots">',
        *_levels(reports),
        *_curves(reports),
        *(chart for one in reports for chart in _over_time(one)),
        "</div><h2>Definitions</h2><dl>",
        *(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in _DEFINITIONS),
        "</dl>",
    ]  # fmt: skip
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width,initial-scale=1"/>'
        '<meta name="color-scheme" content="light dark"/>'
        f"<title>{escape(title)}</title><style>{PALETTE_CSS}{_CSS}{TEXT_CSS}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _throughput(reports: Sequence[Report], slo: str) -> str:
    heads = ["load", "requests", "failed", "cancelled", "requests/s", "tokens/s", "in flight, most"]
    heads += [f"goodput/s at {slo}", "kept"] if slo else []
    rows = []
    for one in reports:
        row = [_load(one), f"{one.requests:,}", f"{one.failed:,}", f"{one.cancelled:,}"]
        row += [f"{one.requests_per_s:.2f}", f"{one.tokens_per_s:.0f}", f"{one.in_flight_max:,}"]
        if slo:
            row += [f"{one.goodput or 0.0:.2f}", f"{100 * (one.slo_share or 0.0):.0f} %"]
        rows.append(row)
    return _table(_heads(heads), rows)


def _latency(reports: Sequence[Report]) -> str:
    """Groups of three: a line of its own for their names keeps the table as narrow as a page."""
    names = [*_NAMES.values(), "TTFT from sending"]
    groups = "".join(f'<th class="group" colspan="3">{name}</th>' for name in names)
    heads = f"<tr><th></th>{groups}</tr>{_heads(['load', *('p50', 'p90', 'p99') * len(names)])}"
    rows = []
    for one in reports:
        spreads = (one.ttft_ms, one.tpot_ms, one.itl_ms, one.e2el_ms, one.ttft_from_sending_ms)
        rows.append([_load(one), *(value for spread in spreads for value in _three(spread))])
    return _table(heads, rows)


def _load(one: Report) -> str:
    return one.load if one.complete else f"{one.load}, interrupted"


def _heads(heads: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<th>{escape(head)}</th>" for head in heads) + "</tr>"


def _table(heads: str, rows: Sequence[Sequence[str]]) -> str:
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead>{heads}</thead><tbody>{body}</tbody></table></div>'


def _three(spread: Spread | None) -> list[str]:
    if spread is None:
        return ["–"] * 3
    return [f"{value:.1f}" for value in (spread.median, spread.p90, spread.p99)]


def _errors(failed: Sequence[tuple[Report, str, int]]) -> str:
    heads = _heads(["load", "reason", "requests", "what the first was told"])
    rows = [
        [one.load, reason, f"{count:,}", one.messages.get(reason, "")]
        for one, reason, count in failed
    ]
    return _table(heads, rows)


def _levels(reports: Sequence[Report]) -> list[str]:
    """What changes with the load; nothing for a single one."""
    if len(reports) < 2:
        return []
    at = [one.rate if one.rate is not None else float(one.concurrency or 0) for one in reports]
    x_label = "requests per second, planned" if reports[0].rate is not None else "requests at once"
    charts = [
        line_chart(
            [Line(name="tokens/s", points=[(x, r.tokens_per_s) for x, r in zip(at, reports, strict=True)])],
            title="Tokens per second", x_label=x_label, y_label="tokens/s", x_ticks=at,
        )
    ]  # fmt: skip
    for name in ("ttft", "tpot"):
        spreads = [(x, spread) for x, r in zip(at, reports, strict=True)
                   if (spread := r.ttft_ms if name == "ttft" else r.tpot_ms)]  # fmt: skip
        charts.append(
            line_chart(
                [
                    Line(name="p50", points=[(x, s.median) for x, s in spreads]),
                    Line(name="p90", points=[(x, s.p90) for x, s in spreads]),
                    Line(name="p99", points=[(x, s.p99) for x, s in spreads]),
                ],
                title=f"{_NAMES[name]} by load", x_label=x_label, y_label="ms", x_ticks=at,
            )
        )  # fmt: skip
    return charts


def _curves(reports: Sequence[Report]) -> list[str]:
    """The whole distribution of each latency: share of the values at or below x."""
    charts = []
    for name in CURVES:
        lines = [
            Line(
                name=one.load,
                points=[(value, float(share)) for share, value in enumerate(one.curves[name])],
            )
            for one in reports
            if name in one.curves
        ]
        if lines:
            charts.append(
                line_chart(
                    lines,
                    title=f"{_NAMES[name]}, distribution",
                    x_label="ms",
                    y_label="% at or below",
                )
            )
    return charts


def _over_time(one: Report) -> list[str]:
    width = float(one.timeline["bin_s"])
    charts = []
    for name, y_label, factor in (
        ("in_flight", "requests", 1.0),
        ("tokens", "tokens/s", 1 / width),
    ):
        values = one.timeline[name]
        points = [(at * width, factor * value) for at, value in enumerate([*values, *values[-1:]])]
        charts.append(
            line_chart(
                [Line(name=name, points=points, steps=True)],
                title=f"{_OVER_TIME[name]}, {one.load}",
                x_label="seconds",
                y_label=y_label,
            )
        )
    return charts
