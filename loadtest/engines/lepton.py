"""Ours: the worker's engine as it serves, scheduler and sampler included, without gRPC."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime

from common.clock import SystemClock
from loadtest.engines.api import Decoded, Facts, window_rate
from worker.engine.config import EngineConfig
from worker.engine.events import EndEvent, FailedEvent, TokenEvent
from worker.engine.loop import EngineLoop
from worker.engine.ports import CacheLayout
from worker.engine.request import EngineRequest
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import StopRule
from worker.engine.stream import TokenStream
from worker.runtime.artifacts import read_artifact
from worker.runtime.calibration import rows_for_many
from worker.runtime.fingerprint import precision_of
from worker.runtime.mode import Mode
from worker.runtime.models.registry import family_of
from worker.runtime.phased import PhasedForward
from worker.runtime.providers.registry import provider_named
from worker.runtime.runner import OnnxRunner
from worker.runtime.session import open_graph

__all__ = ["FastLeptonEngine", "LeptonEngine"]


class LeptonEngine:
    """`loadtest.engines.api.Engine` on `EngineLoop`."""

    mode: Mode = "exact"

    def __init__(self, folder: Path, *, threads: int, rows_max: int, context_max: int) -> None:
        artifact = read_artifact(folder)
        graph = open_graph(
            artifact,
            family_of(artifact.config.model.type),
            provider_named("cpu"),
            threads,
            mode=self.mode,
            prefill_int8=True,
        )
        self._sessions = [_TimedSession(graph.few), _TimedSession(graph.many)]
        capacity = min(context_max, artifact.config.model.context_length)
        runner = OnnxRunner(
            replace(graph, few=self._sessions[0], many=self._sessions[1]),
            CacheLayout(num_slots=rows_max, capacity=capacity),
        )
        forward = runner.forward
        if self.mode == "fast" and isinstance(forward, PhasedForward):
            forward.many_from = rows_for_many(forward, SystemClock())
        self._facts = Facts(
            name="lepton",
            version=f"onnxruntime {onnxruntime.__version__}",
            precision=f"{precision_of(artifact.graph)}, {self.mode}",
            threads=threads,
            notes={"kernels": "native" if graph.is_native else "portable"},
        )
        self._event_loop = asyncio.new_event_loop()
        self._engine = EngineLoop(runner, EngineConfig(waiting_tokens_max=1 << 20), SystemClock())
        self._event_loop.run_until_complete(self._start())

    @property
    def facts(self) -> Facts:
        return self._facts

    def prefill(self, prompt: list[int]) -> float:
        """See `Engine`."""
        began = time.perf_counter()
        self._run([prompt], 1)
        return time.perf_counter() - began

    def decode(self, prompts: list[list[int]], num_tokens: int) -> Decoded:
        """See `Engine`."""
        before, began = self._inside_s(), time.perf_counter()
        times = self._run(prompts, num_tokens)
        took = time.perf_counter() - began
        return window_rate(times, inside=(self._inside_s() - before) / took)

    def close(self) -> None:
        """See `Engine`."""
        self._event_loop.run_until_complete(self._engine.stop())
        self._event_loop.close()

    def _inside_s(self) -> float:
        return sum(session.seconds for session in self._sessions)

    async def _start(self) -> None:
        self._engine.start()

    def _run(self, prompts: list[list[int]], num_tokens: int) -> list[list[float]]:
        return self._event_loop.run_until_complete(self._complete(prompts, num_tokens))

    async def _complete(self, prompts: list[list[int]], num_tokens: int) -> list[list[float]]:
        streams = [self._engine.submit(_request(prompt, num_tokens)) for prompt in prompts]
        return list(await asyncio.gather(*map(_token_times, streams)))


class FastLeptonEngine(LeptonEngine):
    """The same in the mode `fast`."""

    mode: Mode = "fast"


async def _token_times(stream: TokenStream) -> list[float]:
    times = []
    while events := await stream.next():
        for event in events:
            match event:
                case TokenEvent(at=at):
                    times.append(at)
                case FailedEvent(error=error):
                    raise error
                case EndEvent():
                    return times
    raise AssertionError("a stream ended without saying why")


def _request(prompt: list[int], num_tokens: int) -> EngineRequest:
    return EngineRequest(
        prompt_ids=tuple(prompt),
        sampling=SamplingParams(),
        stop=StopRule(max_tokens=num_tokens),
    )


class _TimedSession:
    """An ONNX Runtime session that knows how long it ran."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self.seconds = 0.0

    def io_binding(self) -> Any:
        return self._session.io_binding()

    def run_with_iobinding(self, binding: Any) -> None:
        began = time.perf_counter()
        self._session.run_with_iobinding(binding)
        self.seconds += time.perf_counter() - began
