"""A case as its file says it, what a client reports, and what the gates saw: the nouns of the judge."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "CASES",
    "Call",
    "Case",
    "Command",
    "Expect",
    "Fault",
    "Lane",
    "Refusal",
    "Report",
    "Seen",
]

CASES: Final = Path(__file__).parent / "cases"

Lane = Literal["demo", "oracle", "broken"]
Op = Literal[
    "generate", "complete", "chat", "tokenize", "detokenize", "count_tokens", "list_models"
]


class _Part(BaseModel):
    """A misspelt key in a case fails at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Command(_Part):
    """What the driver is told, beside id and addresses."""

    op: Op
    request: dict[str, Any] = {}
    options: dict[str, Any] = {}


class Refusal(_Part):
    """A call of Generate that the gate answers itself, with this status."""

    code: str
    reason: str = ""
    """Without one the status has no details of ours, as that of a proxy."""
    message: str = "refused by the case"
    retry_after_s: float | None = None


class Fault(_Part):
    """What happens while the case runs. Events are those that the gates have passed on."""

    cut_after_events: int | None = None
    """RST to the client's connection, once; 0: when the stream is asked for."""
    kill_worker_after_events: int | None = None
    """SIGKILL to the worker of the stream."""
    kill_router_after_events: int | None = None
    """SIGKILL to the router of the stream, and its door stays shut until the case ends."""
    drains_after_events: int | None = None
    """The router ends the stream as one that drains does (UNAVAILABLE, DRAINING), once."""
    first_router_down: bool = False
    """Nothing listens at the first address."""
    refusals: tuple[Refusal, ...] = ()
    """The first calls of Generate get these."""
    adds_unknown: bool = False
    """A field of the future in every message of a stream."""
    unknown_finish: bool = False
    """Choices end for reason 99, of the future."""

    @property
    def kills(self) -> bool:
        """Whether a process has to come back afterwards."""
        return (
            self.kill_worker_after_events is not None or self.kill_router_after_events is not None
        )

    @property
    def is_any(self) -> bool:
        """Whether something is to happen that the stage counts."""
        quiet = Fault(adds_unknown=self.adds_unknown, unknown_finish=self.unknown_finish)
        return self != quiet


class WantedError(_Part):
    """Of the error that ends a call. What is not given is not looked at."""

    code: str
    reason: str
    field: str | None = None
    retry_after: bool | None = None
    """Whether the client was told when to come back."""
    request_id: bool | None = None
    """Whether the error knows the request id."""


class Expect(_Part):
    """What must come out. What is not given is not looked at, but `error`: without it there must be none."""

    error: WantedError | None = None
    text: tuple[str, ...] | None = None
    """Per choice: the text interface, and the deltas put together."""
    finish: tuple[str, ...] | None = None
    """Per choice."""
    oracle: bool = False
    """Each choice is what the oracle answers to this prompt, id by id."""
    seq_whole: bool = False
    """`seq` 0, 1, 2, …; first Started, last Finished, nothing twice."""
    prefix_whole: bool = False
    """The same for a stream that was left or that broke: without the Finished."""
    usage: dict[str, int] | None = None
    """Of Finished, by field, exactly."""
    timings: bool = False
    """Finished tells where the time went."""
    logprobs: int | None = None
    """Every token has its log-probability and so many alternatives."""
    json_schema: bool = False
    """The text is JSON that the schema of the request accepts."""
    response: dict[str, Any] | None = None
    """The response of a unary call has at least these."""
    migrated: bool = False
    """The client saw that the stream moved."""
    moved_tokens: bool | None = None
    """Deltas carry token ids, or not."""
    cancelled: bool = False
    idle_within_s: float | None = None
    """No worker computes anything any more, so soon after the report."""
    routers: tuple[str, ...] | None = None
    """Whom the calls of Generate reached, in order: "router1", "router2"."""
    calls: dict[str, tuple[int, int]] = {}
    """By method: fewest and most that the gates saw."""
    metadata: dict[str, str] = {}
    """Of every call of the client."""
    trace_id: str | None = None
    """What the processes traced the call as."""
    apart_s: float | None = None
    """Least time between two calls of Generate."""
    same_every_time: bool = False
    """Repeats give the same text."""
    within_s: float = 30.0
    """The report comes in time."""


class Case(_Part):
    """One file of `cases/`."""

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    about: str
    cluster: Literal["demo", "oracle"]
    command: Command
    tls: Literal["trusted", "unknown"] | None = None
    """Routers are reached over TLS, and the client is told the authority that vouches for them, or another one."""
    repeat: int = 1
    """Times that the command is given; each report is judged."""
    fault: Fault = Fault()
    expect: Expect

    @property
    def lane(self) -> Lane:
        """Where it runs: cases that kill processes have a cluster of their own, so that others need not wait."""
        return "broken" if self.fault.kills else self.cluster

    @classmethod
    def load(cls, path: Path) -> Case:
        """Raises `ValueError` naming what is wrong; a case is named like its file."""
        case = cls.model_validate(json.loads(path.read_text("utf-8")))
        if case.name != path.stem:
            raise ValueError(f"{path.name}: its name is {case.name}")
        return case


class Report(BaseModel):
    """What a driver wrote. Unknown keys are its own."""

    id: str
    events: list[dict[str, Any]] = []
    text: list[str] = []
    finish: list[str] = []
    response: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    cancelled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call that reached a gate."""

    method: str
    at: float
    """Clock seconds."""
    gate: str
    metadata: dict[str, str]
    request: bytes


@dataclass(slots=True, kw_only=True)
class Seen:
    """What the judge knows beside the reports."""

    calls: list[Call] = field(default_factory=list)
    num_faults: int = 0
    """That really happened."""
    idle_after_s: float | None = None
    """After the report, until no worker computed anything; None: not in time, or not asked."""
    report_s: tuple[float, ...] = ()
    """Per command, until its report."""
