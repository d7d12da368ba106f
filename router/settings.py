"""Section `router`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer

from common.settings import Section
from router.core.alias import AliasTarget, format_aliases, parse_aliases

__all__ = ["RouterSettings"]

AliasTable = Annotated[
    dict[str, tuple[AliasTarget, ...]],
    BeforeValidator(parse_aliases),
    PlainSerializer(format_aliases, return_type=str),
]


class RouterSettings(Section):
    """What one router process is and how patient it is."""

    id: str = Field(default="", max_length=64, pattern=r"^[A-Za-z0-9._-]*$")
    """Name in logs, traces and towards workers. Empty: made at start."""
    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs `cluster.insecure`."""
    port: int = Field(default=50051, ge=0, le=65535)
    """gRPC port; 0 takes a free one."""
    metrics_host: str = "127.0.0.1"
    """Address of `/metrics`, `/livez` and `/readyz`. Anything but loopback needs `cluster.insecure`."""
    metrics_port: int = Field(default=8081, ge=0, le=65535)
    """Port of `/metrics`, `/livez` and `/readyz`; 0 takes a free one."""
    processes: int = Field(default=1, ge=1, le=64)
    """Router processes that share the port, for more messages per second than one processor core relays. Every bound of
    this section holds for each of them; `/metrics` shows all, by the label `process`."""
    restart_s_min: float = Field(default=0.1, gt=0, le=60)
    """First wait before one of several processes that ended is started again, seconds; doubles, with jitter."""
    restart_s_max: float = Field(default=5.0, gt=0, le=600)
    """Longest such wait, seconds; a process that lived for longer is started again after the first."""
    policy: str = "power_of_two"
    """How a worker is chosen: `power_of_two` (the better of two drawn at random), `least_loaded` (the best of all)."""
    aliases: AliasTable = Field(default={})
    """Names that stand for models: `chat=demo@1a2b3c4d:95,demo@9f8e7d6c:5; fast=tiny` gives `chat` to one revision of
    `demo` in 95 of 100 cases and to another in 5. Revision (8 digits or more) and weight may be missing. In the file
    also a table, `[router.aliases]` `chat = "demo@…:95,demo@…:5"`."""
    prefix_hashes_max: int = Field(default=128, ge=0, le=4096)
    """Places of a prompt, from its beginning, that are hashed to find the worker that computed them before: one every
    512 bytes and at the end of each message. 0 switches that affinity off."""
    prefix_table_bytes_max: int = Field(default=32 << 20, ge=1 << 16)
    """Memory for what is known where, bytes; the oldest goes first."""
    prefix_ttl_s: float = Field(default=600.0, gt=0)
    """So long a worker is believed to have a prefix in its cache, seconds after it was sent there last, unless it tells
    what it holds."""
    prefix_told_max: int = Field(default=1 << 14, ge=0, le=1 << 20)
    """Most beginnings of prompts that one worker is believed to have because it says so. 0 asks no worker: what was
    sent there is all that counts."""
    in_flight_max: int = Field(default=4096, ge=1)
    """Most calls at once, waiting or running; one more is refused with QUEUE_FULL."""
    queue_s_max: float = Field(default=2.0, ge=0, le=3600)
    """Longest that a call waits for a free row of a worker, seconds. One whose wait will probably be longer is refused
    at once with WOULD_BE_LATE. Callers see at most this much on top of what their answer takes."""
    queue_answers_max: float = Field(default=0.5, gt=0, le=1000)
    """A bound on predicted waits, in answers: a call that would wait longer than so many times as long as calls take on
    average is refused at once. What is taken is then answered within about twice the usual time, whatever the load."""
    queue_max: int = Field(default=2048, ge=0)
    """Most calls that wait so for one model; beyond it QUEUE_FULL."""
    queue_bytes_max: int = Field(default=256 << 20, ge=0)
    """Most bytes of requests that wait for one model; beyond it QUEUE_FULL."""
    queue_per_caller_max: int = Field(default=1024, ge=1)
    """Most calls of one caller (metadata `lepton-caller`) that wait for one model; beyond it CALLER_QUEUE_FULL."""
    queue_callers_max: int = Field(default=256, ge=1)
    """Callers that are told apart in the queue of a model; those beyond share one place."""
    queue_ageing_s: float = Field(default=1.0, gt=0, le=3600)
    """A call that has waited so long is treated as of the next higher priority, seconds."""
    queue_quantum_tokens: int = Field(default=128, ge=1)
    """Estimated tokens that each caller of the same priority may spend in its turn."""
    look_ahead: float = Field(default=0.25, ge=0, le=16)
    """Calls sent to a worker beyond its rows, as a share of them (one at least), so that no row stays empty between two
    calls."""
    blind_max: int = Field(default=64, ge=1)
    """Most rows given out for a model while none of its workers says how loaded it is."""
    wait_for_worker_s_max: float = Field(default=5.0, ge=0, le=600)
    """Longest that a call waits for a worker of a known model to become ready, seconds; its deadline comes first."""
    remember_model_s: float = Field(default=300.0, ge=0)
    """A model without any worker is called NO_WORKER (come back) instead of MODEL_NOT_FOUND for that long, seconds."""
    retries_max: int = Field(default=2, ge=0, le=10)
    """Most times that one call is sent to another worker, always before anything of an answer was sent."""
    retry_budget_ratio: float = Field(default=0.1, ge=0, le=1)
    """Retries that each call earns for all: bounds how much load retrying can add."""
    retry_budget_per_s: float = Field(default=1.0, ge=0)
    """Retries that each second earns."""
    retry_budget_burst: float = Field(default=20.0, ge=0)
    """Most retries saved up."""
    idempotency_keys_max: int = Field(default=10_000, ge=1)
    """Most idempotency keys of which this router remembers request and worker; the oldest go first."""
    migrations_max: int = Field(default=2, ge=0, le=10)
    """Most times that a stream which has begun goes on with another worker because one was lost; 0: never."""
    hand_overs_max: int = Field(default=16, ge=0, le=1000)
    """Most times that such a stream goes on with another worker because one drains."""
    transcript_bytes_max: int = Field(default=64 << 10, ge=0)
    """Memory for an answer as it came, per stream, bytes; when it is full the answer is reduced to token ids."""
    quarantine_s: float = Field(default=600.0, ge=0)
    """A request that has ended workers (two, see `quarantine_calm_s`) is refused for that long, seconds; 0: nothing is
    suspected or refused."""
    quarantine_calm_s: float = Field(default=60.0, ge=0, le=86_400)
    """So long after a worker has died by nobody's doing, a request must have ended three to be refused, seconds."""
    quarantine_entries_max: int = Field(default=1024, ge=1)
    """Most refused requests remembered; the oldest is forgotten first."""
    death_verdict_s: float = Field(default=1.0, ge=0, le=60)
    """Longest wait for a sign of life of a lost worker before a request is called poison because of it, seconds."""
    ticket_s: float = Field(default=3.0, gt=0, le=60)
    """How long the ticket of a `Pick` holds, seconds. One that nobody uses keeps its place on a worker for so long, and
    for what clocks may differ (2 s)."""
    hold_down_s_max: float = Field(default=60.0, ge=0, le=600)
    """Longest that a worker is kept that vanished from the registry without draining while its load stream
    speaks, seconds."""
    load_silence_s_max: float = Field(default=1.0, gt=0, le=60)
    """A worker that is silent, or whose step is late, for longer gets nothing new until it speaks, or steps, again,
    seconds."""
    abandon_s: float = Field(default=1.75, gt=0, le=600)
    """After so many seconds of silence, of a late step or without a load stream the calls on a worker are given up, and
    go on elsewhere where they can."""
    stream_silence_s_max: float = Field(default=5.0, ge=0, le=600)
    """A call that gets nothing more from a worker, although the worker says for so many seconds that nothing runs and
    nothing waits there, is given up there, and goes on elsewhere where it can. Before its first message it gets three
    times as long, for tokenizing and `worker.grammar_compile_s_max`. 0: none is."""
    mass_silence_s_max: float = Field(default=10.0, ge=0, le=600)
    """While more than half of a model's workers are silent at once, calls are not given up for silence alone, for so
    many seconds."""
    mass_vanish_s_max: float = Field(default=600.0, ge=0, le=86_400)
    """While more than half of a model's workers are missing from the registry, those whose connections hold are kept,
    for so many seconds."""
    eject_failures_max: int = Field(default=5, ge=1)
    """So many failed calls in a row set a worker aside."""
    eject_success_ratio_min: float = Field(default=0.8, ge=0, le=1)
    """So does a smaller share of good calls among the last `eject_calls_min` or more."""
    eject_calls_min: int = Field(default=20, ge=1)
    """Fewer calls within `eject_window_s` say nothing about a worker."""
    eject_window_s: float = Field(default=10.0, gt=0, le=3600)
    """How far back calls are looked at, seconds."""
    eject_slow_factor: float = Field(default=3.0, gt=1)
    """A worker whose tokens take so many times as long as those of its like is set aside."""
    eject_s: float = Field(default=5.0, gt=0, le=3600)
    """How long, at most, the first time, seconds; n times as long the n-th time in a row. Then one probe decides."""
    eject_s_max: float = Field(default=300.0, gt=0, le=86_400)
    """Longest that a worker is set aside before a probe, seconds."""
    eject_share_max: float = Field(default=0.5, ge=0, le=1)
    """Largest share of a model's workers that is set aside at once; 0 sets nobody aside."""
    probe_s_max: float = Field(default=5.0, gt=0, le=30)
    """Longest that a probe may take, seconds."""
    slow_start_s: float = Field(default=10.0, ge=0, le=3600)
    """A worker that joins others, or was set aside, gets its full share after so many seconds."""
    load_interval_ms: int = Field(default=50, ge=10, le=10_000)
    """Longest time between two load reports of a worker, milliseconds."""
    load_reconnect_s_min: float = Field(default=0.05, gt=0, le=60)
    """First wait before a broken load stream is tried again, seconds; doubles, with jitter."""
    load_reconnect_s_max: float = Field(default=1.0, gt=0, le=60)
    """Longest wait between two tries of a load stream, seconds."""
    sweep_s: float = Field(default=0.1, ge=0.01, le=60)
    """How often hold-downs and lost workers are looked at, seconds."""
    client_silence_s_max: float = Field(default=4.0, ge=1, le=3600)
    """A client that answers no ping of HTTP/2 for so long has vanished, seconds: its calls are cancelled."""
    worker_message_bytes_max: int = Field(default=64 << 20, ge=1024)
    """Largest message that a worker may answer with, bytes."""
    connections_max: int = Field(default=10_000, ge=1)
    """Most client connections at once, or fewer where the limit on open files does not allow that many; further ones
    are closed."""
    calls_per_connection_max: int = Field(default=1024, ge=1)
    """Most calls at once on one client connection; a client waits by itself before it opens more."""
    outlet_bytes_max: int = Field(default=32 << 10, ge=1)
    """Most bytes of one stream that wait for a client that reads slowly; they leave as one message. Then the worker has
    to wait. Bytes."""
    outlets_bytes_max: int = Field(default=64 << 20, ge=0)
    """The same of all streams together; beyond it each has one message waiting. Bytes."""
    slow_reader_s: float = Field(default=30.0, gt=0, le=3600)
    """A client that takes nothing for that long, although something waits for it, is cut off with SLOW_READER,
    seconds."""
    drain_delay_s: float = Field(default=0.5, ge=0, le=600)
    """After SIGTERM new calls are taken for that long while health already says NOT_SERVING, so that load balancers
    notice first, seconds."""
    drain_s_max: float = Field(default=30.0, ge=0, le=3600)
    """Longest that running calls may go on after that, seconds; then they end with DRAINING."""
