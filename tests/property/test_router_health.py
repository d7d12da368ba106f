"""Outlier ejection over random histories: never too many, never for ever, never by chance outside its bounds."""

from __future__ import annotations

from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from router.core.health.outliers import HealthLimits, Outliers

LIMITS = HealthLimits(ejection_s_max=30.0)
workers = st.integers(0, 5)
Key = tuple[str, str]


class HealthMachine(RuleBasedStateMachine):
    """Workers come, go, fall silent, fail, get slow, and answer probes as they like."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.outliers = Outliers(LIMITS, Random(7))
        self.serving: dict[Key, bool] = {}
        self.asked: list[Key] = []
        self.ejected_since: dict[Key, float] = {}
        self.num_joined = 0

    @initialize(num=st.integers(1, 6))
    def begin(self, num: int) -> None:
        for worker in range(num):
            self.join(worker)

    @rule(worker=workers)
    def join(self, worker: int) -> None:
        self.num_joined += 1
        key = (f"w{worker}", str(self.num_joined))
        self.outliers.join(key, group="m", kind="cpu")
        self.outliers.serves(key, self.now, serves=True)
        self.serving[key] = True

    @precondition(lambda self: self.serving)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.serving)))
        self.outliers.leave(key, self.now)
        del self.serving[key]
        self.ejected_since.pop(key, None)

    @precondition(lambda self: self.serving)
    @rule(data=st.data(), serves=st.booleans())
    def change(self, data: st.DataObject, serves: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.serving)))
        self.outliers.serves(key, self.now, serves=serves)
        self.serving[key] = serves

    @precondition(lambda self: self.serving)
    @rule(data=st.data(), num=st.integers(1, 25), failed=st.booleans())
    def calls(self, data: st.DataObject, num: int, failed: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.serving)))
        for _ in range(num):
            self.outliers.note(key, self.now, failed=failed)

    @precondition(lambda self: self.serving)
    @rule(data=st.data(), rows=st.integers(1, 16), token_s=st.floats(0.001, 1))
    def step(self, data: st.DataObject, rows: int, token_s: float) -> None:
        key = data.draw(st.sampled_from(sorted(self.serving)))
        self.outliers.measured(key, self.now, rows=rows, token_s=token_s)

    @rule(seconds=st.floats(0, 12))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.outliers.sweep(self.now)
        self.asked += self.outliers.due(self.now)

    @precondition(lambda self: self.asked)
    @rule(passed=st.booleans())
    def answer(self, passed: bool) -> None:
        self.outliers.probed(self.asked.pop(0), self.now, passed=passed)

    @invariant()
    def never_more_than_its_share_is_ejected(self) -> None:
        serving = [key for key, serves in self.serving.items() if serves]
        ejected = [key for key in serving if self.outliers.why(key)]
        assert len(ejected) <= len(serving) * LIMITS.ejected_share_max

    @invariant()
    def ejections_are_within_their_bounds(self) -> None:
        for news in self.outliers.news():
            if news.why:
                assert LIMITS.ejection_s / 2 <= news.for_s <= LIMITS.ejection_s_max
                self.ejected_since[news.key] = self.now
            else:
                self.ejected_since.pop(news.key, None)
        told = {key for key in self.serving if self.outliers.why(key)}
        assert told == set(self.ejected_since), "the news and the state are one"

    def teardown(self) -> None:
        """Whatever happened: with time and passed probes everybody comes back."""
        for key in self.asked:
            self.outliers.probed(key, self.now, passed=True)
        for key in self.serving:
            self.outliers.serves(key, self.now, serves=True)
        self.now += LIMITS.ejection_s_max
        for key in self.outliers.due(self.now):
            self.outliers.probed(key, self.now, passed=True)
        assert not any(self.outliers.why(key) for key in self.serving)


TestHealth = HealthMachine.TestCase
TestHealth.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
