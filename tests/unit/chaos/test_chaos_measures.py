"""Times, shares and verdicts, from records that are made up."""

from __future__ import annotations

import math

import pytest

from chaos.injection import Injection
from chaos.measures import amplification, p99, timings
from chaos.outcome import judge
from chaos.record import Received, Record
from chaos.run import with_control
from chaos.scenario import load_scenario, names
from common.errors import Conflict, NotFound
from lepton.v1 import inference_pb2


def stream(
    *times: float, sent_at: float, worker: str = "w1", moved: tuple[float, str] | None = None
) -> Record:
    """One token at each time; `moved`: from when on another worker sends them."""
    record = Record(
        name="r", kind="k", request=inference_pb2.GenerateRequest(), sent_at=sent_at, deadline_s=60
    )
    events = [(times[0], inference_pb2.Event(started={"worker_id": worker}))]
    events += [(at, inference_pb2.Event(delta={"token_ids": [1]})) for at in times]
    if moved is not None:
        at, other = moved
        move = inference_pb2.Event(migrated={"from_worker_id": worker, "to_worker_id": other})
        events.append((at - 0.0001, move))
    events.sort(key=lambda one: one[0])
    record.received = [Received(at, event) for at, event in events]
    record.code, record.ended_at = "OK", times[-1]
    return record


def ticks(start: float, end: float, step: float = 0.1) -> list[float]:
    return [start + i * step for i in range(round((end - start) / step))]


def fault(at: float, *victims: str, in_flight: int = 1) -> Injection:
    return Injection(at=at, what="kill", victims=victims, in_flight=in_flight, hit=1)


def test_the_added_gap_is_that_of_streams_which_were_hit() -> None:
    hit = stream(*ticks(0, 5), *ticks(5.5, 8), sent_at=0, moved=(5.5, "w2"))
    other = stream(*ticks(0, 3), *ticks(4, 8), sent_at=0, worker="w3")
    found = timings([hit, other], [fault(4.95, "w1")], calm_s=2, ended_at=8)
    assert found["added_gap_ms_p99"] == pytest.approx(500, abs=1)  # 600 less the usual 100
    assert found["gap_ms_max"] == pytest.approx(1100, abs=1)
    assert found["hit_streams"] == 1


def test_detection_ends_with_the_last_request_that_was_sent_to_the_bad_worker() -> None:
    records = [
        stream(*ticks(0.1, 5), sent_at=0),
        stream(*ticks(6.0, 7), sent_at=4.5),  # its first token was late
        stream(*ticks(5.9, 7), sent_at=5.2, moved=(6.3, "w2")),  # it was moved
        stream(*ticks(6.1, 7), sent_at=6.0),
    ]
    found = timings(records, [fault(4.0, "w1")], calm_s=2, ended_at=7)
    assert found["detect_ms"] == pytest.approx(1200)


def test_recovery_is_seen_in_tokens_per_second_or_not_at_all() -> None:
    steady = stream(*ticks(0, 5), *ticks(7, 12), sent_at=0)
    found = timings([steady], [fault(5.0, "w1")], calm_s=2, ended_at=12)
    assert 1800 <= found["recover_ms"] <= 2200
    silent = stream(*ticks(0, 5), sent_at=0)
    found = timings([silent], [fault(5.0, "w1")], calm_s=2, ended_at=12)
    assert math.isinf(found["recover_ms"])


def test_the_share_of_a_bad_worker_counts_from_five_seconds_on() -> None:
    early = [stream(5 + i / 10, sent_at=5 + i / 10, worker="bad") for i in range(30)]
    late = [
        stream(11 + i / 10, sent_at=11 + i / 10, worker="bad" if i == 0 else "w1")
        for i in range(20)
    ]
    found = timings([*early, *late], [fault(5.0, "bad")], calm_s=1, ended_at=14)
    assert found["victim_share"] == pytest.approx(0.05)


def test_amplification_counts_what_routers_sent_beyond_what_they_got() -> None:
    before = {"lepton_requests_total": 100.0, "lepton_retries_total": 10.0}
    after = {
        "lepton_requests_total": 200.0,
        "lepton_retries_total": 15.0,
        "lepton_migrations_total": 10.0,
    }
    assert amplification(before, after) == pytest.approx(1.15)
    assert amplification(before, after, num_hit=20) == pytest.approx(115 / 110)
    assert amplification(before, before) is None


def test_p99_of_nothing_and_of_something() -> None:
    assert p99([]) == 0
    assert p99([3.0]) == 3.0
    assert p99([float(i) for i in range(101)]) == pytest.approx(99)


def test_void_outweighs_both_verdicts() -> None:
    injections = (fault(1.0, in_flight=3),)
    assert judge({"lost": 9}, {"lost": 0}, injections, in_flight_min=4)[0] == "void"
    assert judge({"lost": 0}, {"lost": 0}, (), in_flight_min=0)[0] == "void"
    assert judge({"lost": 0}, {"lost": 0}, injections, in_flight_min=3)[0] == "pass"
    assert judge({"lost": 1}, {"lost": 0}, injections, in_flight_min=3)[0] == "fail"
    assert judge({"lost": 0}, {"lost": 0, "x_ms": 1}, injections, in_flight_min=3)[0] == "void"
    assert judge({"x_min": 0.8}, {"x_min": 0.9}, injections, in_flight_min=3)[0] == "fail"


def test_every_scenario_is_well_formed_and_names_faults_and_kinds_that_exist() -> None:
    from chaos.faults import FAULTS
    from chaos.requests import KINDS
    from chaos.words import MEASURES

    assert len(names()) > 15
    for name in names():
        scenario = load_scenario(name)
        assert {one.do for one in scenario.fault} <= set(FAULTS), name
        assert set(scenario.load.kinds) <= set(KINDS), name
        assert set(scenario.expect) <= set(MEASURES), name
        assert scenario.load.in_flight_min <= max(scenario.load.streams, 100), name
        if scenario.control is not None:
            switched = with_control(scenario)
            assert set(switched.expect) == set(scenario.control.breaks), name
        else:
            with pytest.raises(Conflict):
                with_control(scenario)


def test_a_scenario_that_does_not_exist_is_a_typed_error() -> None:
    with pytest.raises(NotFound):
        load_scenario("no-such")
    with pytest.raises(NotFound):
        load_scenario("../pyproject")
