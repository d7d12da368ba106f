"""Where the settings file wants the router to listen, so that `lepton up` does not overrule it unasked."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import Conflict, Reason

__all__ = ["Listen", "listen_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """What the file says of it. None: nothing."""

    host: str | None = None
    port: int | None = None
    http_port: int | None = None
    metrics_port: int | None = None


def listen_of(file: Path | None) -> Listen:
    """`host`, `port` and `metrics_port` of the section [router], `port` of [gateway].

    The rest of the sections is the router's to judge. Raises `Conflict(SETTING_INVALID)` for a value of the wrong type;
    the file itself has been read before, with the agent's own settings.
    """
    if file is None:
        return Listen()
    sections = tomllib.loads(file.read_text("utf-8"))
    return Listen(
        host=_typed(sections, "router", "host", str, file),
        port=_typed(sections, "router", "port", int, file),
        http_port=_typed(sections, "gateway", "port", int, file),
        metrics_port=_typed(sections, "router", "metrics_port", int, file),
    )


def _typed(sections: dict[str, Any], section: str, key: str, kind: type, file: Path) -> Any:
    value = sections.get(section, {}).get(key)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise Conflict(
            f"setting {section}.{key} ({file}: [{section}] {key}): {value!r} is not {kind.__name__}",
            reason=Reason.SETTING_INVALID,
        )
    return value
