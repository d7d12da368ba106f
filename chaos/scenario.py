"""Scenarios as data: what is started, what load runs, what breaks when, what must hold all the same.

One TOML file each in `chaos/scenarios`; `docs/reliability.md` has the table that they make.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import Conflict, NotFound, Reason

__all__ = ["Control", "FaultWish", "LoadWish", "Scenario", "load_scenario", "names"]

_FOLDER: Final = "scenarios"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClusterPart(_Part):
    """What is started."""

    workers: int = Field(default=3, ge=1, le=16)
    routers: int = Field(default=1, ge=1, le=4)
    engine: Literal["oracle", "demo"] = "oracle"
    restart_s: float = Field(default=0.2, ge=0)
    """Wait before a process that died is started again."""
    settings: Mapping[str, str | int | float | bool] = Field(default_factory=dict)
    """ "section.key" → value."""


class LoadWish(_Part):
    """Who asks what."""

    streams: int = Field(default=40, ge=0)
    """Clients that ask one request after another."""
    direct: bool = False
    """Whether they stream from the workers, as the SDKs do in direct mode."""
    kinds: tuple[str, ...] = (
        "greedy",
        "seeded",
        "penalties",
        "stop",
        "logprobs",
        "choices",
        "chat",
        "long",
    )
    """See `chaos.requests`."""
    distinct: int = Field(default=4, ge=1)
    """Different requests of each kind."""
    max_tokens: int = Field(default=150, ge=1)
    deadline_s: float = Field(default=60.0, gt=0)
    calm_s: float = Field(default=2.0, ge=0)
    """Load before the first fault; what is normal is measured here."""
    after_s: float = Field(default=4.0, ge=0)
    """Load after the last fault."""
    in_flight_min: int = Field(default=1, ge=0)
    """Fewer requests in flight at a fault make the run void."""


class FaultWish(_Part):
    """What breaks."""

    do: str
    """See `chaos.faults`."""
    who: str = "worker"
    """`worker`, `workers`, `router`, `etcd`."""
    times: int = Field(default=1, ge=1)
    every_s: float = Field(default=1.0, ge=0)
    """From one to the next."""
    for_s: float = Field(default=0.0, ge=0)
    """How long it lasts, where that means something."""
    meanwhile: bool = False
    """The next fault does not wait for its end."""
    args: Mapping[str, Any] = Field(default_factory=dict)
    """More, by kind of fault."""


class Control(_Part):
    """The same run with the protection switched off must fail."""

    settings: Mapping[str, str | int | float | bool]
    breaks: tuple[str, ...]
    """Expectations of which at least one must then not hold."""
    times: int | None = None
    """Instead of each fault's `times`."""
    workers: int | None = None


class Scenario(_Part):
    """One file."""

    name: str
    order: int = 100
    promise: str
    """Number in docs/reliability.md."""
    title: str
    """What happens, a few words."""
    says: str
    """What is promised then, one sentence."""
    cluster: ClusterPart = ClusterPart()
    load: LoadWish = LoadWish()
    fault: tuple[FaultWish, ...]
    expect: Mapping[str, float]
    """Measure → most (`x`) or least (`x_min`) that it may be; see `chaos.measures`."""
    allowed: tuple[str, ...] = ()
    """Reasons of errors that are a right answer here."""
    control: Control | None = None
    short: bool = False
    """Part of `make test`."""


@cache
def names() -> tuple[str, ...]:
    """Every scenario, in the order in which the suite runs them."""
    files = (resources.files("chaos") / _FOLDER).iterdir()
    found = [load_scenario(f.name.removesuffix(".toml")) for f in files if f.name.endswith(".toml")]
    return tuple(s.name for s in sorted(found, key=lambda s: (s.order, s.name)))


def load_scenario(name: str) -> Scenario:
    """Raises `NotFound` for a name that there is none of, `Conflict(SETTING_INVALID)` for a file that is wrong."""
    file = resources.files("chaos") / _FOLDER / f"{name}.toml"
    if "/" in name or not file.is_file():
        raise NotFound(f"there is no scenario {name!r}; `lepton chaos list` shows them")
    try:
        return Scenario(name=name, **tomllib.loads(file.read_text("utf-8")))
    except (ValidationError, tomllib.TOMLDecodeError, TypeError) as error:
        raise Conflict(
            f"chaos/scenarios/{name}.toml: {error}", reason=Reason.SETTING_INVALID
        ) from error
