"""Names that stand for weighted models and revisions: stable for clients, a share of the traffic for a canary."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import log
from random import Random
from typing import Any, Final, final

from router.core.call import RoutingView
from router.core.candidates import by_revision
from router.core.endpoint import EndpointState
from router.core.pool import PoolSnapshot

__all__ = ["AliasTarget", "Aliases", "parse_aliases"]

_NAME_CHARS_MAX: Final = 128
_REVISION: Final = re.compile(r"[0-9a-f]{8,64}")
_WEIGHT: Final = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasTarget:
    """One of the things that an alias means."""

    model: str
    revision: str = ""
    """A prefix of at least 8 digits; empty: any."""
    weight: int = 1
    """Its share of the traffic is its weight over the sum of all."""

    def __str__(self) -> str:
        return f"{self.model}{'@' if self.revision else ''}{self.revision}:{self.weight}"


def parse_aliases(value: Any) -> Any:
    """`chat=demo@1a2b3c4d:95,demo@9f8e7d6c:5; fast=tiny`, or a table of name → `demo@1a2b3c4d:95,…`, as name → targets.

    Raises `ValueError` that says what is wrong and how it is written. A value of another type is returned as it is.
    """
    if isinstance(value, str):
        value = dict(_named(part) for part in value.split(";") if part.strip())
    if not isinstance(value, Mapping):
        return value
    return {_checked_name(name): _targets(name, text) for name, text in value.items()}


@final
class Aliases:
    """The aliases of one router."""

    def __init__(self, targets: Mapping[str, Sequence[AliasTarget]], random: Random) -> None:
        self._targets = targets
        self._random = random

    def __repr__(self) -> str:
        return f"Aliases({', '.join(self._targets) or 'none'})"

    @property
    def targets(self) -> Mapping[str, Sequence[AliasTarget]]:
        """By name."""
        return self._targets

    def target_of(self, view: RoutingView, snapshot: PoolSnapshot) -> AliasTarget | None:
        """What a request for an alias means, with its full weight in the long run; None when it names no alias.

        All requests of a session, and all turns of a chat, mean the same for as long as it is served. Who pins a
        revision gets it. Of several targets only those that are ready count, unless none is.
        """
        targets = self._targets.get(view.model)
        if targets is None:
            return None
        if view.revision:
            return AliasTarget(
                model=_serving(targets, view.revision, snapshot), revision=view.revision
            )
        ready = [target for target in targets if _is_ready(target, snapshot)] or targets
        if len(ready) == 1:
            return ready[0]
        key = view.session_key or (
            str(view.prefix.conversation) if view.prefix.conversation else ""
        )
        return min(ready, key=lambda target: self._turn(view.model, key, target))

    def _turn(self, alias: str, key: str, target: AliasTarget) -> float:
        """When the target would come up if each came at a rate of its weight: the first one wins with probability
        weight / sum, and when one leaves, only its own requests go elsewhere (weighted rendezvous hashing).
        """
        if key:
            data = "\0".join((alias, key, target.model, target.revision)).encode()
            drawn = int.from_bytes(blake2b(data, digest_size=7).digest(), "big") / (1 << 56)
        else:
            drawn = self._random.random()
        return -log(1.0 - drawn) / target.weight


def _is_ready(target: AliasTarget, snapshot: PoolSnapshot) -> bool:
    return any(
        endpoint.state is EndpointState.READY
        for revision, endpoints in by_revision(snapshot.models.get(target.model, ())).items()
        if revision.startswith(target.revision)
        for endpoint in endpoints
    )


def _serving(targets: Sequence[AliasTarget], revision: str, snapshot: PoolSnapshot) -> str:
    """The model among those of the alias that has that revision, else the first."""
    for target in targets:
        known = by_revision(snapshot.models.get(target.model, ()))
        if any(one.startswith(revision) for one in known):
            return target.model
    return targets[0].model


def _named(part: str) -> tuple[str, str]:
    name, equals, text = part.partition("=")
    if not equals:
        raise ValueError(f"{part.strip()!r}: write NAME=MODEL[@REVISION][:WEIGHT],…; NAME=…")
    return name.strip(), text


def _checked_name(name: str) -> str:
    if not 1 <= len(name) <= _NAME_CHARS_MAX:
        raise ValueError(f"{name!r}: the name of an alias has 1 to {_NAME_CHARS_MAX} characters")
    return name


def _targets(name: str, text: Any) -> tuple[AliasTarget, ...]:
    if not isinstance(text, str):
        raise ValueError(f"alias {name!r}: write a text, MODEL[@REVISION][:WEIGHT],…")
    targets = tuple(_target(name, part.strip()) for part in text.split(",") if part.strip())
    if not targets:
        raise ValueError(f"alias {name!r} has no target; write MODEL[@REVISION][:WEIGHT],…")
    return targets


def _target(name: str, text: str) -> AliasTarget:
    rest, colon, weight = text.rpartition(":")
    if not colon:
        rest, weight = text, "1"
    model, at, revision = rest.rpartition("@")
    if not at:
        model, revision = rest, ""
    if not _WEIGHT.fullmatch(weight) or int(weight) == 0:
        raise ValueError(f"alias {name!r}, target {text!r}: the weight is 1 to 999999")
    if at and not _REVISION.fullmatch(revision):
        raise ValueError(f"alias {name!r}, target {text!r}: a revision is 8 to 64 hex digits")
    if not 1 <= len(model) <= _NAME_CHARS_MAX:
        raise ValueError(f"alias {name!r}, target {text!r}: write MODEL[@REVISION][:WEIGHT]")
    return AliasTarget(model=model, revision=revision, weight=int(weight))
