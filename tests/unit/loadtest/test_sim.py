"""The simulator: virtual time, worlds that repeat, and rules that are seen to be broken when they are."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from common.errors import Reason, Unavailable
from loadtest.sim.codec import SimRecord
from loadtest.sim.faults import Fault, FaultKind
from loadtest.sim.ledger import Answer, faults_of
from loadtest.sim.measure import measure
from loadtest.sim.oracle import cacheable_tokens
from loadtest.sim.router import WorldShape
from loadtest.sim.runs import run_seed
from loadtest.sim.trace import BLOCK_TOKENS, Ask, TraceShape, make_trace
from loadtest.sim.virtual_time import VirtualClock, run_virtually
from loadtest.sim.worker import SimWorker
from loadtest.sim.world import World


def _ask(index: int = 0, *, at: float = 0.0, prefix: tuple[int, ...] = (), answer: int = 8) -> Ask:
    return Ask(
        index=index, at=at, session=index, prefix=prefix, prompt_tokens=max(1, len(prefix)) * BLOCK_TOKENS,
        answer_tokens=answer, deadline_s=30.0, priority=0, caller="a",
    )  # fmt: skip


def _answer(*spans: tuple[int, int], answer: int = 8, ended: int = 1) -> Answer:
    made = Answer(ask=_ask(answer=answer), asked_at=0.0, spans=list(spans))
    for _ in range(ended):
        made.end(1.0, None)
    return made


def test_an_hour_takes_no_time_and_timers_keep_their_order() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        seen: list[float] = []
        loop.call_later(3600, lambda: seen.append(loop.time()))
        loop.call_later(1, lambda: seen.append(loop.time()))
        await VirtualClock(loop).sleep(3601)
        return seen

    assert run_virtually(main()) == [1.0, 3600.0]


def test_a_wait_that_nothing_ends_is_an_error() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="no timer"):
        run_virtually(main())


@pytest.mark.parametrize("seed", [3, 8])
def test_a_seed_gives_the_same_run_again(seed: int) -> None:
    assert run_seed(seed, "power_of_two") == run_seed(seed, "power_of_two")


def test_no_rule_is_broken_in_worlds_with_every_kind_of_fault() -> None:
    seen: set[str] = set()
    for seed in range(1, 25):
        run = run_seed(seed, "power_of_two", workers=6)
        assert run.numbers.faults == (), f"seed {seed}"
        seen.update(run.faults)
    assert seen == set(FaultKind)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (_answer((0, 4), (4, 4)), None),
        (_answer((0, 4), (5, 3)), "gap"),
        (_answer((0, 4), (3, 5)), "repeated"),
        (_answer((0, 4)), "cut short"),
        (_answer((0, 8), ended=0), "ended 0 times"),
        (_answer((0, 8), ended=2), "ended 2 times"),
    ],
)
def test_what_may_never_happen_is_found(answer: Answer, fault: str | None) -> None:
    found = list(faults_of([answer]))
    if fault is None:
        assert found == []
    else:
        assert any(fault in line for line in found)


def test_a_worker_that_repeats_itself_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    speak = SimWorker._speak

    def twice(self: SimWorker, call: object) -> None:
        call.next = max(0, call.next - 1)  # type: ignore[attr-defined]
        speak(self, call)  # type: ignore[arg-type]

    monkeypatch.setattr(SimWorker, "_speak", twice)
    monkeypatch.setattr(SimRecord, "check", lambda *_: None)  # or the router would not let it pass

    async def main() -> World:
        world = World(WorldShape(workers=1, policy="power_of_two"), [_ask()], [], Random(1))
        await world.run()
        return world

    assert any("repeated" in line for line in measure(run_virtually(main())).faults)


def test_an_all_knowing_cluster_has_every_beginning_that_was_asked_before() -> None:
    asks = [
        _ask(0, prefix=(1, 2)),
        _ask(1, prefix=(1, 2, 3)),
        _ask(2, prefix=(9, 2)),
        _ask(3, prefix=(1,)),
    ]
    assert cacheable_tokens(asks) == 3 * BLOCK_TOKENS


def test_a_later_turn_begins_with_the_earlier_one() -> None:
    trace = make_trace(TraceShape(asks=400, per_s=10), Random(5))
    by_session: dict[int, tuple[int, ...]] = {}
    longer = 0
    for ask in trace:
        before = by_session.get(ask.session, ())
        assert ask.prefix[: len(before)] == before
        longer += len(ask.prefix) > len(before) > 0
        by_session[ask.session] = ask.prefix
    assert longer > 50
    assert [ask.at for ask in trace] == sorted(ask.at for ask in trace)


def test_a_request_that_nobody_can_serve_ends_typed() -> None:
    async def main() -> World:
        fault = Fault(kind=FaultKind.KILL, at=0.01, lasts_s=1000.0, worker=0)
        world = World(
            WorldShape(workers=1, policy="power_of_two"), [_ask(at=0.1)], [fault], Random(1)
        )
        await world.run()
        return world

    world = run_virtually(main())
    (answer,) = world.answers
    assert isinstance(answer.error, Unavailable)
    assert answer.error.reason in {Reason.NO_WORKER, Reason.WORKER_LOST}
    assert measure(world).good == 0.0
