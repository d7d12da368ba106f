"""Section `router`."""

from __future__ import annotations

from pydantic import Field

from common.settings import Section

__all__ = ["RouterSettings"]


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
    metrics_port: int = Field(default=8080, ge=0, le=65535)
    """Port of `/metrics`, `/livez` and `/readyz`; 0 takes a free one."""
    policy: str = "power_of_two"
    """How a worker is chosen: `power_of_two` (the better of two drawn at random), `least_loaded` (the best of all)."""
    in_flight_max: int = Field(default=4096, ge=1)
    """Most calls at once; one more is refused with QUEUE_FULL."""
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
    migrations_max: int = Field(default=2, ge=0, le=10)
    """Most times that a stream which has begun goes on with another worker because one was lost; 0: never."""
    hand_overs_max: int = Field(default=16, ge=0, le=1000)
    """Most times that such a stream goes on with another worker because one drains."""
    transcript_bytes_max: int = Field(default=64 << 10, ge=0)
    """Memory for an answer as it came, per stream, bytes; when it is full the answer is reduced to token ids."""
    quarantine_s: float = Field(default=600.0, ge=0)
    """A request that has ended two workers is refused for that long, seconds; 0: nothing is suspected or refused."""
    quarantine_entries_max: int = Field(default=1024, ge=1)
    """Most refused requests remembered; the oldest is forgotten first."""
    death_verdict_s: float = Field(default=1.0, ge=0, le=60)
    """Longest wait for a sign of life of a lost worker before a request is called poison because of it, seconds."""
    hold_down_s_max: float = Field(default=60.0, ge=0, le=600)
    """Longest that a worker is kept that vanished from the registry without draining while its load stream
    speaks, seconds."""
    abandon_s: float = Field(default=5.0, gt=0, le=600)
    """After so many seconds without a load stream the calls on a worker are given up; those of which nothing was sent
    yet go elsewhere."""
    load_interval_ms: int = Field(default=50, ge=10, le=10_000)
    """Longest time between two load reports of a worker, milliseconds."""
    load_silence_s_max: float = Field(default=2.0, gt=0, le=60)
    """A worker that is silent for longer gets nothing new until it speaks again, seconds."""
    load_reconnect_s_min: float = Field(default=0.05, gt=0, le=60)
    """First wait before a broken load stream is tried again, seconds; doubles, with jitter."""
    load_reconnect_s_max: float = Field(default=1.0, gt=0, le=60)
    """Longest wait between two tries of a load stream, seconds."""
    sweep_s: float = Field(default=0.25, ge=0.01, le=60)
    """How often hold-downs and lost workers are looked at, seconds."""
    client_silence_s_max: float = Field(default=4.0, ge=1, le=3600)
    """A client that answers no ping of HTTP/2 for so long has vanished, seconds: its calls are cancelled."""
    worker_message_bytes_max: int = Field(default=64 << 20, ge=1024)
    """Largest message that a worker may answer with, bytes."""
    drain_delay_s: float = Field(default=0.5, ge=0, le=600)
    """After SIGTERM new calls are taken for that long while health already says NOT_SERVING, so that load balancers
    notice first, seconds."""
    drain_s_max: float = Field(default=30.0, ge=0, le=3600)
    """Longest that running calls may go on after that, seconds; then they end with DRAINING."""
