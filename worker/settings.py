"""Section `worker`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from common.settings import Section
from worker.engine.config import EngineConfig
from worker.kernels.library import Kernels

__all__ = ["WorkerSettings"]


class WorkerSettings(Section):
    """One worker process: which model, where it listens, how much it takes on."""

    model_dir: Path
    """Folder of the model, in the layout of the onnxruntime-genai builder."""
    model_name: str = Field(default="", max_length=128, pattern=r"^[^\s\x00-\x1f]*$")
    """Name that requests use. Empty: the name of the folder."""
    id: str = Field(default="", max_length=128)
    """Id in the registry, unique in the cluster. Empty: made at start."""
    host: str = "127.0.0.1"
    """Address to listen on. Beyond loopback it needs `cluster.insecure`."""
    port: int = Field(default=50061, ge=0, le=65535)
    """gRPC port; 0 takes any free one."""
    advertise: str = ""
    """host or host:port by which routers reach this worker. Empty: `host` and the bound port."""
    metrics_host: str = "127.0.0.1"
    """Address of /metrics, /livez and /readyz. Beyond loopback it needs `cluster.insecure`."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Port of /metrics, /livez and /readyz; 0 takes any free one."""
    engine: Literal["onnx", "oracle"] = "onnx"
    """`onnx` serves the model. `oracle` is for tests of the cluster: its tokens are a pure function of the request, its
    answers mean nothing, nothing is read from `model_dir`; section `oracle` has its pace."""
    provider: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    """Where the model is computed, by ONNX Runtime's execution provider. `cuda` and `tensorrt` need 'lepton[gpu]', a
    model exported for CUDA in fp16 and `mode` fast; nobody has run them on a GPU yet (docs/gpu.md)."""
    device_id: int = Field(default=0, ge=0, le=255)
    """Which GPU, counted from 0."""
    device_memory_mib: int = Field(default=0, ge=0, le=1 << 30)
    """Most memory of the GPU for weights and what is computed on the way, MiB; 0 takes what it needs. Keys, values and
    beginnings of prompts come on top: `kv_memory_mib`, `prefix_cache_mib`."""
    engine_cache_dir: str = ""
    """Folder in which TensorRT keeps the engines that it has built, so that the next start does not build them again;
    empty keeps none."""
    threads: int = Field(default=0, ge=0, le=1024)
    """Compute threads; 0 takes what the machine and its limits (cgroup, affinity) give."""
    tool_format: Literal[
        "auto", "none", "hermes", "granite", "mistral", "llama3_json", "pythonic", "json"
    ] = "auto"
    """How the model writes calls of tools. `auto` reads it off the chat template; `none` refuses tools."""
    rows_max: int = Field(default=16, ge=1, le=4096)
    """Most sequences in one batch; each holds a row of the KV cache."""
    context_max: int = Field(default=0, ge=0)
    """Most tokens of prompt and completion together; 0 takes what the model allows. Bounds the KV cache."""
    mode: Literal["exact", "fast"] = "exact"
    """`exact`: a request gets the same tokens, to the bit, alone and in any company. `fast`: decode runs choose the
    form of their weights by the number of rows, for more tokens per second under load."""
    kernels: Kernels = "auto"
    """Whose operators compute on the CPU: `native`, ours, for x86-64 from AVX2 on; `portable`, ONNX Runtime's own;
    `auto`, ours wherever they can. Ours are exact, so `mode` and `prefill_int8` change nothing there. The name of an
    instruction set is `native` in that one instead of the best."""
    kv_precision: Literal["auto", "fp32", "fp16", "int8"] = "auto"
    """How keys and values are kept; other than the graph was exported with needs our own operators. `auto`: fp16 with
    those and quantised weights, else as exported. int8 takes a quarter of fp32's memory and costs some accuracy."""
    prefill_int8: bool = True
    """Compute prompts with 8-bit integers where weights are quantised in blocks: faster, for a byte more per weight. On
    the CPU, for graphs in fp32."""
    prefix_cache_mib: int = Field(default=256, ge=0, le=1 << 20)
    """Most memory that keeps beginnings of prompts for requests that share them, MiB; 0 switches that off."""
    prefix_digest_max: int = Field(default=4096, ge=0, le=1 << 16)
    """Most beginnings of prompts (one every 512 bytes and at the end of each message) that routers are told of as
    cached; 16 bytes of a load report for each at most. 0 tells nothing: routers then guess from what they sent here."""
    lookup_tokens_max: int = Field(default=8, ge=0, le=32)
    """Most tokens that are looked up in prompt and answer, where the last few have been there before, and verified
    in one step; as many as have paid lately. What is answered is the same, to the bit. Our own operators alone do it
    (`kernels`); 0 switches it off."""
    lookup_streams_max: int = Field(default=4, ge=0, le=32)
    """Most answers at once while that is done; beside more it does not pay."""
    lookup_ngram: int = Field(default=3, ge=1, le=16)
    """How many tokens must have been there before."""
    kv_memory_mib: int = Field(default=0, ge=0, le=1 << 30)
    """Most memory for keys and values of requests, MiB, where the model is computed. A request begins when there is
    room for its prompt and `max_tokens`, and waits until then; what can never fit is refused as too long for the
    context. 0 takes most of what machine and control group, or the GPU, have left at start: set it where several
    workers share one. A GPU's memory is taken at once, in rows that can all be full, so there it bounds the context."""
    chunk_tokens_max: int = Field(default=512, ge=4)
    """Most prompt tokens in one step, over all prompts."""
    chunk_stretch: float = Field(default=2.0, gt=1, le=1000)
    """How many times as long as decoding alone a step may take because of prompts: what a long prompt costs the streams
    beside it. Large values finish prompts sooner."""
    chunk_patience_s: float = Field(default=0.5, gt=0, le=3600)
    """How long a prompt may wait for its begin beside a free row, seconds; beyond it `chunk_stretch` grows in
    proportion, up to `step_ms_max`. It also grows when many prompts wait so."""
    preemptions_max: int = Field(default=2, ge=0, le=1000)
    """How many times a sequence may have to give up its row for one of a higher priority that waits; it goes on later,
    with the same tokens. 0: never."""
    preempt_after_s: float = Field(default=0.2, ge=0, le=3600)
    """How long the one of a higher priority waits before, seconds: a row may become free by itself."""
    step_ms_max: float = Field(default=100.0, gt=0, le=60_000)
    """Aim for the length of one step, milliseconds; cancellation, deadlines and liveness rest on it."""
    linger_ms: float = Field(default=10.0, ge=0, le=1000)
    """How long the next step may wait for an arrival after a stream of another worker has gone on, milliseconds. The
    router tries such streams one after another on each worker, and the next one would just miss the step."""
    first_token_ms: float = Field(default=2.0, ge=0, le=100)
    """How long the next step may wait while the first token of a stream is passed on, milliseconds: a step keeps every
    core busy. 0: not at all."""
    rest_after_s: float = Field(default=10.0, gt=0, le=86_400)
    """After so many seconds without work the memory of rows goes back to the system."""
    waiting_sequences_max: int = Field(default=256, ge=1)
    """Most sequences that wait for a row; beyond it requests are refused with QUEUE_FULL."""
    waiting_tokens_max: int = Field(default=131_072, ge=1)
    """Most prompt tokens that wait; beyond it requests are refused with QUEUE_FULL."""
    tokenizer_threads: int = Field(default=2, ge=1, le=64)
    """Threads that turn text into tokens, beside the event loop."""
    tokenizer_waiting_max: int = Field(default=256, ge=0)
    """Most prompts that wait for such a thread; beyond it requests are refused with QUEUE_FULL."""
    grammar_compile_s_max: float = Field(default=2.0, gt=0, le=600)
    """Longest that compiling one constraint may take, seconds; then the process that tries it out is ended, and the
    request refused with GRAMMAR_TOO_LARGE."""
    grammar_memory_mib_max: int = Field(default=256, ge=16, le=1 << 20)
    """Most memory that compiling one constraint may take, MiB."""
    grammar_processes: int = Field(default=2, ge=0, le=64)
    """Processes that try constraints out, beside the worker; none of them starts before it is needed. 0 refuses every
    constraint, and saves the memory that their token tables take."""
    grammar_waiting_max: int = Field(default=256, ge=0)
    """Most constraints that wait to be compiled; beyond it requests are refused with QUEUE_FULL."""
    grammar_verdicts_max: int = Field(default=1024, ge=1)
    """Constraints of which the worker remembers whether they passed, so that the next request skips the trial."""
    grammar_symbols_max: int = Field(default=100_000, ge=1)
    """Largest grammar: symbols in all its rules."""
    grammar_states_max: int = Field(default=20_000, ge=2)
    """Most states that the lexer of one request may come to, half a kilobyte to two each."""
    grammar_mask_fuel_max: int = Field(default=200_000, ge=1)
    """Most work of the lexer for one token, in steps of which a core does about 14,000 a millisecond."""
    grammar_mask_items_max: int = Field(default=50_000, ge=1)
    """Most work of the parser for one token, in steps of which a core does about 20,000 a millisecond."""
    resumable_calls_max: int = Field(default=1024, ge=1)
    """Most calls with `resumable_ms` or an `idempotency_key` at once, ended ones that are still kept included: those go
    first when room is short. Beyond it requests are refused with QUEUE_FULL."""
    replay_bytes_max: int = Field(default=1 << 20, ge=1024)
    """Memory that keeps the last events of one such call, bytes. A client that comes back for older ones is refused
    with RESUME_EXPIRED."""
    replay_total_bytes_max: int = Field(default=64 << 20, ge=1024)
    """The same for all such calls together, bytes."""
    idempotency_linger_s: float = Field(default=2.0, ge=0, le=600)
    """How long a call with an `idempotency_key` goes on when its last client has gone, seconds, so that one that comes
    back finds it. `resumable_ms` counts if it is longer."""
    load_push_ms_min: int = Field(default=10, ge=1, le=1000)
    """Shortest time between two load reports to one router, milliseconds."""
    drain_s_max: float = Field(default=30.0, ge=0, le=3600)
    """Longest time that running requests get when the worker is told to end, seconds."""
    hand_over_s: float = Field(default=2.0, ge=0, le=600)
    """At the end of that time, the part in which what still runs is ended with DRAINING, so that routers go on with it
    elsewhere while this worker is still there to say so, seconds; at most half of it."""
    engine_check_s: float = Field(default=1.0, gt=0, le=60)
    """How often the worker looks whether its engine still works, seconds; it ends when it does not."""

    @property
    def name(self) -> str:
        """The model name in use."""
        return self.model_name or self.model_dir.resolve().name

    def engine_config(self) -> EngineConfig:
        """The bounds of the engine."""
        smallest = EngineConfig()
        return EngineConfig(
            waiting_sequences_max=self.waiting_sequences_max,
            waiting_tokens_max=self.waiting_tokens_max,
            prefix_digest_max=self.prefix_digest_max,
            chunk_tokens_max=self.chunk_tokens_max,
            chunk_tokens_min=min(smallest.chunk_tokens_min, self.chunk_tokens_max),
            chunk_tokens_first=min(smallest.chunk_tokens_first, self.chunk_tokens_max),
            chunk_stretch=self.chunk_stretch,
            chunk_patience_s=self.chunk_patience_s,
            preemptions_max=self.preemptions_max,
            preempt_after_s=self.preempt_after_s,
            step_ms_max=self.step_ms_max,
            lookup_tokens_max=self.lookup_tokens_max,
            lookup_streams_max=self.lookup_streams_max,
            lookup_ngram=self.lookup_ngram,
            rest_after_s=self.rest_after_s,
            linger_ms=self.linger_ms,
            first_token_ms=self.first_token_ms,
        )
