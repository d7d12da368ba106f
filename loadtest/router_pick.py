"""`python -m loadtest.router_pick`: what one choice of a worker costs, while load reports arrive. Needs no processes.

A choice is what the router does for a call between its parsed message and its worker: the snapshot, the model, the
policy with affinity to prefixes, and counting the call on the worker. Between two choices each worker sends its share
of the reports.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from statistics import quantiles
from time import perf_counter_ns
from typing import Final

from rich.console import Console

from common.clock import SystemClock
from common.request.prefix_of import prefix_of
from lepton.v1 import inference_pb2
from loadtest.table import Table
from router.core.call import RoutingView
from router.core.endpoint import Endpoint, EndpointState, Load
from router.core.policy.prefix_table import PrefixTable
from router.core.policy.registry import POLICIES, make_policy
from router.core.policy.scorers.prefix import PrefixScorer
from router.core.pool import EndpointPool
from router.core.resolve import resolve
from router.settings import RouterSettings

__all__ = ["main"]

_ROWS: Final = 16
_PROMPT_BYTES: Final = 4096
_DOCUMENTS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Microseconds."""

    pick_p50: float
    pick_p99: float
    report: float
    """Of one load report, on average."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.router_pick", description=__doc__)
    add = parser.add_argument
    add("--workers", type=int, action="append", help="workers (4, 100 and 1000)")
    add("--picks", type=int, default=3000, help="choices that are timed (3000)")
    add("--reports", type=int, default=10, help="load reports between two choices (10)")
    add("--policy", choices=sorted(POLICIES), default="power_of_two")
    add("--seed", type=int, default=1)
    wish = parser.parse_args(arguments)
    rows = []
    for workers in wish.workers or (4, 100, 1000):
        cost = measure(workers, wish.picks, wish.reports, wish.policy, Random(wish.seed))
        numbers = (cost.pick_p50, cost.pick_p99, cost.report)
        rows.append([str(workers), *(f"{number:.1f}" for number in numbers)])
    hashing = _hashing_us()
    table = Table(
        title=f"One choice with {wish.policy}, microseconds ({wish.reports} reports in between)",
        head=("workers", "choice p50", "choice p99", "one report"),
        rows=rows,
    )
    console = Console(highlight=False)
    console.print(table.rich())
    console.print(f"Hashing a prompt of {_PROMPT_BYTES} bytes before it: {hashing:.1f} µs")
    return 0


def measure(workers: int, picks: int, reports: int, policy_name: str, random: Random) -> Cost:
    """Times `picks` choices among that many workers, one half with a session key, prompts sharing beginnings."""
    clock = SystemClock()
    settings = RouterSettings()
    pool = EndpointPool(clock, hold_down_s_max=60, abandon_s=5, remember_s=300)
    table = PrefixTable(bytes_max=settings.prefix_table_bytes_max, ttl_s=settings.prefix_ttl_s)
    policy = make_policy(policy_name, random, PrefixScorer(table, clock))
    endpoints = [_endpoint(index) for index in range(workers)]
    pool.apply(endpoints, stale=False)
    for endpoint in endpoints:
        pool.report(endpoint.id, endpoint.incarnation, Load(rows_max=_ROWS), draining=False)
    views = [_view(random) for _ in range(picks)]
    pick_ns, report_ns = [], 0
    for view in views:
        loads = [
            (random.choice(endpoints), Load(rows_max=_ROWS, running=random.randint(0, _ROWS)))
            for _ in range(reports)
        ]
        began = perf_counter_ns()
        for endpoint, load in loads:
            pool.report(endpoint.id, endpoint.incarnation, load, draining=False)
        reported = perf_counter_ns()
        choice = policy.choose(view, resolve(view, pool.snapshot()))
        if choice is None:
            raise RuntimeError("nobody was chosen although all are ready")
        policy.routed(view, choice.endpoint)
        with pool.track(choice.endpoint):
            pick_ns.append(perf_counter_ns() - reported)
        report_ns += reported - began
    cuts = quantiles(pick_ns, n=100)
    return Cost(
        pick_p50=cuts[49] / 1e3,
        pick_p99=cuts[98] / 1e3,
        report=report_ns / 1e3 / max(1, reports * picks),
    )


def _hashing_us(repeats: int = 300) -> float:
    request = inference_pb2.GenerateRequest(text="x" * _PROMPT_BYTES)
    best = float("inf")
    for _ in range(repeats):
        began = perf_counter_ns()
        prefix_of(request, RouterSettings().prefix_hashes_max)
        best = min(best, (perf_counter_ns() - began) / 1e3)
    return best


def _view(random: Random) -> RoutingView:
    document = int(random.paretovariate(1.0)) % _DOCUMENTS
    text = f"{document} ".ljust(_PROMPT_BYTES - 100, "x") + str(random.random())
    request = inference_pb2.GenerateRequest(model="m", text=text)
    session = str(random.random()) if random.random() < 0.5 else ""
    prefix = prefix_of(request, RouterSettings().prefix_hashes_max)
    return replace(RoutingView(model="m", session_key=session), prefix=prefix)


def _endpoint(index: int) -> Endpoint:
    return Endpoint(
        id=f"worker-{index}",
        incarnation=f"worker-{index}.1",
        address=f"10.0.0.1:{index}",
        model="m",
        revision="5" * 64,
        tasks=("generate",),
        context_length=8192,
        vocab_size=1000,
        fingerprint="",
        state=EndpointState.CONNECTING,
        load=Load(rows_max=_ROWS),
    )


if __name__ == "__main__":
    sys.exit(main())
