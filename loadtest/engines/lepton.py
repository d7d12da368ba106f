"""Ours: the worker's engine as it serves, loader, scheduler and sampler included, without gRPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt
import onnxruntime

from common.clock import SystemClock
from loadtest.engines.api import Decoded, Facts, window_rate
from loadtest.engines.weights import kv_bytes_per_token, looked_up_bytes, weights_bytes
from worker.engine.config import EngineConfig
from worker.engine.events import EndEvent, FailedEvent, TokenEvent
from worker.engine.loop import EngineLoop
from worker.engine.ports import Batch, PrefillChunk
from worker.engine.request import EngineRequest
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import Sequence, StopRule
from worker.engine.stream import TokenStream
from worker.kernels.library import Kernels
from worker.runtime.artifacts import read_artifact
from worker.runtime.mode import Mode
from worker.runtime.model import load_model
from worker.runtime.providers.registry import provider_named
from worker.runtime.runner import OnnxRunner

__all__ = [
    "Avx2LeptonEngine",
    "AvxVnniLeptonEngine",
    "FastLeptonEngine",
    "LeptonEngine",
    "PortableLeptonEngine",
    "opened",
]

WAITING_TOKENS_MAX: Final = 1 << 20
"""Prompts of all streams arrive at once here."""


PROMPTS_FIRST: Final = 1000.0
"""As `worker.chunk_stretch`: no stream goes ahead while others wait for their first token, so all decode together."""
STEP_MS_MAX: Final = 10_000.0
"""With it: nobody here cancels a call or waits for a sign of life."""


class LeptonEngine:
    """`loadtest.engines.api.Engine` on `EngineLoop`."""

    mode: Mode = "exact"
    kernels: Kernels = "auto"

    def __init__(
        self,
        folder: Path,
        *,
        threads: int,
        rows_max: int,
        context_max: int,
        prefix_cache_mib: int = 0,
        chunk_stretch: float = PROMPTS_FIRST,
        lookup_tokens_max: int = 0,
        provider: str = "cpu",
    ) -> None:
        spec = provider_named(provider)
        self._inside = _TimeInside()
        self._steps = _Steps(self._inside)
        loaded = load_model(
            folder,
            name=folder.name,
            threads=threads,
            rows_max=rows_max,
            context_max=context_max,
            prefix_cache_mib=prefix_cache_mib,
            drafted_max=lookup_tokens_max * EngineConfig().lookup_streams_max,
            prefill_int8=True,
            mode="fast" if spec.has_device else self.mode,  # there it is the only one
            provider=spec,
            kernels=self.kernels,
        )
        self._runner = loaded.runner
        artifact = read_artifact(folder)
        self._facts = Facts(
            name="Lepton",
            version=f"onnxruntime {onnxruntime.__version__}",
            precision=loaded.info.fingerprint.split("/")[3],
            threads=threads,
            notes={"fingerprint": loaded.info.fingerprint},
            weights_bytes=weights_bytes(artifact.graph, loaded.info.fingerprint),
            looked_up_bytes=looked_up_bytes(artifact.graph),
            kv_bytes_per_token=kv_bytes_per_token(artifact.config.model, loaded.info.fingerprint),
        )
        self._event_loop = asyncio.new_event_loop()
        self._engine = EngineLoop(
            self._runner,
            EngineConfig(
                waiting_tokens_max=WAITING_TOKENS_MAX,
                chunk_stretch=chunk_stretch,
                step_ms_max=STEP_MS_MAX
                if chunk_stretch == PROMPTS_FIRST
                else EngineConfig().step_ms_max,
                lookup_tokens_max=lookup_tokens_max,
            ),
            SystemClock(),
            observer=self._steps,
        )
        self._event_loop.run_until_complete(self._start())

    @property
    def facts(self) -> Facts:
        return self._facts

    @property
    def runner(self) -> OnnxRunner:
        """What computes; to be touched while nothing runs."""
        return self._runner

    @property
    def drafted(self) -> tuple[int, int]:
        """Tokens of drafts since `decode` was called last, and how many of them stood."""
        return self._steps.num_drafted, self._steps.num_accepted

    def prefill(self, prompt: list[int]) -> float:
        """See `Engine`."""
        began = time.perf_counter()
        self.complete([prompt], 1)
        return time.perf_counter() - began

    def decode(self, prompts: list[list[int]], num_tokens: int) -> Decoded:
        """See `Engine`."""
        self._steps.clear()
        times = self.complete(prompts, num_tokens)
        step_ms, inside = self._steps.of_rows(len(prompts))
        return window_rate(times, step_ms=step_ms, inside=inside)

    def logits(self, prompts: list[list[int]]) -> npt.NDArray[np.float32]:
        """See `Engine`. The engine rests meanwhile."""
        return np.stack([self._logits(prompt) for prompt in prompts])

    def complete(self, prompts: list[list[int]], num_tokens: int) -> list[list[float]]:
        """When each token of each stream came, seconds on the monotonic clock."""
        return self.run(self._complete(prompts, num_tokens))

    def run(self, coroutine: Any) -> Any:
        """Runs something that calls `submit` on the engine's event loop."""
        return self._event_loop.run_until_complete(coroutine)

    async def submit(self, prompt: list[int], num_tokens: int) -> list[float]:
        """One stream to its end: when its tokens came, seconds on the monotonic clock."""
        request = EngineRequest(
            prompt_ids=tuple(prompt),
            sampling=SamplingParams(),
            stop=StopRule(max_tokens=num_tokens),
        )
        return await _token_times(self._engine.submit(request))

    def close(self) -> None:
        """See `Engine`."""
        self._event_loop.run_until_complete(self._engine.stop())
        self._event_loop.close()

    async def _start(self) -> None:
        self._engine.start()

    async def _complete(self, prompts: list[list[int]], num_tokens: int) -> list[list[float]]:
        return list(await asyncio.gather(*(self.submit(prompt, num_tokens) for prompt in prompts)))

    def _logits(self, prompt: list[int]) -> npt.NDArray[np.float32]:
        *begin, last = prompt
        sequence = Sequence(
            id=-1,
            choice=0,
            prompt_ids=tuple(begin),
            sampling=SamplingParams(),
            stop=StopRule(max_tokens=2),
            slot=0,
        )
        whole = PrefillChunk(sequence=sequence, start=0, end=len(begin))
        for _ in self._runner.compute(Batch(prefill=(whole,))):
            pass
        sequence.generated_ids.append(last)
        sequence.num_computed_tokens = len(begin)
        (computed,) = self._runner.compute(Batch(decode=(sequence,)))
        return np.array(computed.logits[0])


class FastLeptonEngine(LeptonEngine):
    """The same in the mode `fast`."""

    mode: Mode = "fast"


class PortableLeptonEngine(FastLeptonEngine):
    """On ONNX Runtime's own operators, as on processors that ours are not made for, in the mode that is faster."""

    kernels: Kernels = "portable"


class Avx2LeptonEngine(LeptonEngine):
    """On our operators as a processor with AVX2 alone computes them."""

    kernels: Kernels = "avx2"


class AvxVnniLeptonEngine(LeptonEngine):
    """On our operators as a processor with AVX-VNNI and no AVX-512 computes them."""

    kernels: Kernels = "avx_vnni"


@contextmanager
def opened(folder: Path, mode: str, **options: Any) -> Iterator[LeptonEngine]:
    """An engine of that mode, scheduled as by default, until the end of the block; `options` as of `LeptonEngine`."""
    made = FastLeptonEngine if mode == "fast" else LeptonEngine
    engine = made(folder, chunk_stretch=EngineConfig().chunk_stretch, **options)
    try:
        yield engine
    finally:
        engine.close()


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


@final
class _TimeInside:
    """Seconds inside ONNX Runtime, of every session of this process."""

    def __init__(self) -> None:
        self.seconds = 0.0
        run = onnxruntime.InferenceSession.run_with_iobinding

        def timed(session: Any, *arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return run(session, *arguments, **options)
            finally:
                self.seconds += time.perf_counter() - began

        onnxruntime.InferenceSession.run_with_iobinding = timed


@final
class _Steps:
    """`worker.engine.observer.StepObserver`: when steps ended, and how long they were inside ONNX Runtime."""

    def __init__(self, inside: _TimeInside) -> None:
        self._inside = inside
        self._seen: list[tuple[float, float, int, int]] = []
        self.num_drafted = self.num_accepted = 0

    def on_step(self, *, duration_s: float, num_prefill_tokens: int, num_decode_rows: int) -> None:
        del duration_s
        self._seen.append(
            (time.perf_counter(), self._inside.seconds, num_decode_rows, num_prefill_tokens)
        )

    def on_drafts(self, *, num_drafted: int, num_accepted: int) -> None:
        self.num_drafted += num_drafted
        self.num_accepted += num_accepted

    def on_preemption(self) -> None:
        """All streams here have the same priority."""

    def clear(self) -> None:
        self._seen.clear()
        self.num_drafted = self.num_accepted = 0

    def of_rows(self, rows: int) -> tuple[float | None, float | None]:
        """Of steps that did nothing but decode that many rows: median milliseconds, share inside."""
        walls, insides = [], []
        for before, step in zip(self._seen, self._seen[1:], strict=False):
            if step[2:] == before[2:] == (rows, 0):
                walls.append(step[0] - before[0])
                insides.append(step[1] - before[1])
        if not walls:
            return None, None
        return 1e3 * median(walls), sum(insides) / sum(walls)
