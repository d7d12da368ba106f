"""A contest's result → tables. Medians over the rounds; ratios within a round, only to rows of similar error."""

from __future__ import annotations

from collections.abc import Sequence

from loadtest.engines.exactness import SIMILAR
from loadtest.engines.result import Measure, Result
from loadtest.engines.roofline import roofline_tables
from loadtest.table import Table

__all__ = [
    "engine_tables",
    "groups",
    "memory_table",
    "peer_tables",
    "rule",
    "step_tables",
    "tables",
]

MIB = 1 << 20


def tables(result: Result) -> list[Table]:
    """Everything worth a table, most wanted first."""
    if result.others:
        return [*peer_tables(result), *step_tables(result), memory_table(result)]
    return [*engine_tables(result), *roofline_tables(result), memory_table(result)]


def peer_tables(result: Result) -> list[Table]:
    """Who is how fast: a table for each group of rows that compete with one another, and the ratios below it."""
    found = []
    for ours, others in groups(result):
        found.append(
            _rates(
                result,
                ours,
                others,
                title="Tokens per second" + errors_of(result, (*ours, *others)),
            )
        )
        if others:
            found.append(_standings(result, ours))
    met = {other for _, others in groups(result) for other in others}
    if alone := [other for other in result.others if other not in met]:
        title = "Shown, not competing: no row of ours has a similar error"
        found.append(_rates(result, (), alone, title=title))
    return found


def engine_tables(result: Result) -> list[Table]:
    """Our rows in detail: what a step takes and where, and how long prompts take."""
    return [table for label in result.ours for table in _details(result, label)]


def step_tables(result: Result) -> list[Table]:
    """Beside others: how even the tokens of one stream come, and of ours what a step takes."""
    decode = [measure for measure in result.measures if measure.kind == "decode"]
    if not decode:
        return []
    gaps, steps = [], []
    for label in (*result.ours, *result.others):
        pairs = [
            [_number(result.detail(label, m, name)) for name in ("itl_ms", "itl_ms_p99")]
            for m in decode
        ]
        gaps.append([label, *(" / ".join(pair) for pair in pairs)])
    for label in result.ours:
        cells = []
        for measure in decode:
            inside = result.detail(label, measure, "inside")
            share = "–" if inside is None else f"{100 * (1 - inside):.1f} %"
            cells.append(f"{_number(result.detail(label, measure, 'step_ms'))} ({share})")
        steps.append([label, *cells])
    heads = ("engine", *_heads(decode))
    return [
        Table(title="Time between two tokens of one stream, ms, p50 / p99", head=heads, rows=gaps),
        Table(title="Time per step, ms, and Python's share of it", head=heads, rows=steps),
    ]


def memory_table(result: Result) -> Table:
    """What is resident, and what it is."""
    rows = []
    streams = max((m.size for m in result.measures if m.kind == "decode"), default=0)
    tokens = streams * (result.plan["prompt_tokens"] + result.plan["tokens"])
    for label in (*result.ours, *result.others):
        facts = result.facts[label]
        weights, per_token = facts.get("weights_bytes"), facts.get("kv_bytes_per_token")
        rows.append(
            [
                label,
                _mib(weights),
                _mib(facts.get("loaded_rss")),
                _mib(per_token and per_token * tokens),
                _mib(facts.get("rss")),
                _mib(facts.get("peak")),
            ]
        )
    return Table(
        title=f"Memory, MiB (KV in use: {streams} streams of "
        f"{result.plan['prompt_tokens'] + result.plan['tokens']} tokens)",
        head=("engine", "weights", "RSS loaded", "KV in use", "RSS at the end", "most"),
        rows=rows,
    )  # fmt: skip


def groups(result: Result) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Ours that compete with the same others, and these."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for label in result.ours:
        groups.setdefault(result.competitors(label), []).append(label)
    return [(tuple(ours), others) for others, ours in groups.items()]


def errors_of(result: Result, labels: Sequence[str]) -> str:
    """The range of their errors for a title; empty when nothing was measured."""
    errors = [error for one in labels if (error := result.error(one)) is not None]
    return f", logit errors {min(errors):.3f} to {max(errors):.3f}" if errors else ""


def _rates(result: Result, ours: Sequence[str], others: Sequence[str], *, title: str) -> Table:
    labels = (*ours, *others)
    best = {m: max(labels, key=lambda label: result.rate(label, m)) for m in result.measures}
    rows = []
    for label in labels:
        row = [label, _error(result.error(label))]
        for measure in result.measures:
            rate = f"{result.rate(label, measure):.0f}"
            row.append(f"**{rate}**" if best[measure] == label and len(labels) > 1 else rate)
        rows.append(row)
    return Table(title=title, head=("engine", "error", *_heads(result.measures)), rows=rows)


def _standings(result: Result, ours: Sequence[str]) -> Table:
    rows = []
    for measure in result.measures:
        found = [result.standing(label, measure) for label in ours]
        cells = [f"{s.ratio:.2f} ({s.low:.2f}–{s.high:.2f})" if s else "–" for s in found]
        rows.append([str(measure), next((s.best for s in found if s), "–"), *cells])
    return Table(
        title="Ours over the best of them: median of the rounds (least–most)",
        head=("", "best of the others", *ours),
        rows=rows,
    )


def _details(result: Result, label: str) -> list[Table]:
    decode = [measure for measure in result.measures if measure.kind == "decode"]
    prefill = [measure for measure in result.measures if measure.kind == "prefill"]
    found = []
    if decode:
        rows = []
        for measure in decode:
            inside = result.detail(label, measure, "inside")
            rows.append(
                [
                    str(measure.size),
                    f"{result.rate(label, measure):.0f}",
                    *(
                        _number(result.detail(label, measure, name))
                        for name in ("step_ms", "itl_ms", "itl_ms_p99")
                    ),
                    "–" if inside is None else f"{100 * (1 - inside):.1f} %",
                ]
            )
        found.append(
            Table(
                title=f"{label}: decoding",
                head=("streams", "tokens/s", "step, ms", "ITL p50, ms", "ITL p99, ms",
                      "Python"),
                rows=rows,
            )
        )  # fmt: skip
    if prefill:
        found.append(
            Table(
                title=f"{label}: prompts",
                head=("tokens", "tokens/s", "to the first token, ms"),
                rows=[
                    [
                        str(measure.size),
                        f"{result.rate(label, measure):.0f}",
                        f"{1e3 * measure.size / result.rate(label, measure):.1f}",
                    ]
                    for measure in prefill
                ],
            )
        )
    return found


def rule(result: Result) -> str:
    """What the error is and who competes, in one paragraph."""
    if all(result.error(label) is None for label in (*result.ours, *result.others)):
        return "Logit errors were not measured here, so every row competes with every other."
    return (
        "*Error*: root mean square of the difference between an engine's logits and those of transformers in float32, "
        "over the standard deviation of the latter, after the same 24 prompts of 64 random tokens (the last of them "
        f"computed by itself). Rows compete when neither error is more than {SIMILAR:g} times the other: speed that "
        "was bought with exactness is shown, not ranked."
    )


def _heads(measures: Sequence[Measure]) -> list[str]:
    heads, before = [], ""
    for measure in measures:
        heads.append(str(measure) if measure.kind != before else str(measure.size))
        before = measure.kind
    return heads


def _error(error: float | None) -> str:
    return "not measured" if error is None else f"{error:.3f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _mib(value: float | None) -> str:
    return "–" if value is None else f"{value / MIB:,.0f}"
