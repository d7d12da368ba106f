"""Bounds of admission."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

__all__ = ["AdmissionLimits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    """Counts and bytes are per model, except `in_flight_max`."""

    in_flight_max: int = 4096
    """Calls at once in this router, waiting or running; one more is refused."""
    look_ahead: float = 0.25
    """Calls sent beyond a worker's rows, as a share of them (at least one), so that no row stays empty between two."""
    blind_max: int = 64
    """Rows given out while no worker of the model says how loaded it is."""
    waiting_max: int = 2048
    """Calls that wait."""
    waiting_bytes_max: int = 256 << 20
    """Bytes of the requests that wait."""
    waiting_of_caller_max: int = 1024
    """Calls of one caller that wait."""
    callers_max: int = 256
    """Callers that are told apart while they wait; those beyond share one place in the order."""
    wait_s_max: float = 2.0
    """Longest wait, predicted or real, seconds."""
    wait_answers_max: float = inf
    """Longest wait that may be predicted, in answers: so many times as long as calls hold their rows on average."""
    no_worker_s_max: float = 5.0
    """Longest wait while no worker of the model is ready, seconds."""
    ageing_s: float = 1.0
    """After so many seconds a waiting call moves one band up."""
    quantum: int = 128
    """Tokens that each caller in turn may spend."""
