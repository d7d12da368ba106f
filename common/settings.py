"""Settings: frozen sections, filled from flags, environment and a TOML file, in that order of weight.

A process has one section of its own ("router", "worker") and shares others ("discovery", "telemetry", …). The same
key has three spellings:

    file    [router]                     flags    --router.port 50051  (own section: --port 50051)
            port = 50051                 env      LEPTON_ROUTER_PORT=50051

An unknown or malformed key is an error that names it and where it was found: a typo must never silently leave a
default in place. Sections of other processes may stand in the same file and environment and are left alone.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationError

from common.errors import Conflict, Reason

__all__ = ["ENV_PREFIX", "SECTIONS", "Section", "StrTuple", "load", "parse_flags", "to_env"]

ENV_PREFIX: Final = "LEPTON_"

SECTIONS: Final = (
    "router",
    "worker",
    "gateway",
    "agent",
    "discovery",
    "telemetry",
    "limits",
    "cluster",
    "convert",
    "oracle",
)
"""Every section of every process; a name outside it is a typo."""

_ENV_NOT_SETTINGS: Final = ("LEPTON_CONFIG", "LEPTON_ADDRESS")
"""`LEPTON_` names with a meaning of their own: the path of the settings file; the cluster that commands ask."""


class Section(BaseModel):
    """Base of all sections: frozen, closed, with field docstrings that end up in docs/settings.md."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


def _split(value: Any) -> Any:
    """A comma-separated string (environment, flags) as a tuple; anything else as it is."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


StrTuple = Annotated[tuple[str, ...], BeforeValidator(_split)]
"""A list of strings: a TOML array in the file, comma-separated elsewhere."""

SectionT = TypeVar("SectionT", bound=Section)


@dataclass(frozen=True, slots=True)
class _Found:
    value: Any
    where: str


def load(
    sections: Mapping[str, type[Section]],
    *,
    file: Path | None = None,
    env: Mapping[str, str],
    flags: Mapping[tuple[str, str], str] | None = None,
) -> dict[str, Any]:
    """Fills every section class in `sections` (name → class) and returns name → instance.

    `flags` maps (section, key) to text. Raises `Conflict(SETTING_INVALID)` naming key and place on an unknown section,
    an unknown key, a malformed value, or a file that cannot be read.
    """
    found: dict[str, dict[str, _Found]] = {name: {} for name in SECTIONS}
    _read_file(file, found)
    _read_env(env, found)
    for (section, key), text in (flags or {}).items():
        found[section][key] = _Found(text, f"flag --{section}.{key.replace('_', '-')}")
    return {name: _fill(name, cls, found[name]) for name, cls in sections.items()}


def parse_flags(arguments: Sequence[str], *, own: str) -> dict[tuple[str, str], str]:
    """`--port 1`, `--port=1`, `--discovery.etcd-endpoints a,b` as {(section, key): text}.

    A flag without a section belongs to `own`; a flag without a value means "true".
    Raises `Conflict(SETTING_INVALID)` on anything that is not a flag.
    """
    flags: dict[tuple[str, str], str] = {}
    rest = list(arguments)
    while rest:
        head = rest.pop(0)
        if not head.startswith("--") or head == "--":
            raise _invalid(f"{head!r} is not a flag; write --key value")
        name, equals, text = head[2:].partition("=")
        if not equals:
            text = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        section, dot, key = name.partition(".")
        if not dot:
            section, key = own, section
        if section not in SECTIONS:
            raise _invalid(
                f"unknown section {section!r} in flag --{name}; sections are {', '.join(SECTIONS)}"
            )
        flags[section, key.replace("-", "_")] = text
    return flags


def to_env(sections: Mapping[str, Section]) -> dict[str, str]:
    """The environment from which `load` makes the same sections again, secrets included. For processes of our own."""
    return {
        f"{ENV_PREFIX}{name.upper()}_{key.upper()}": text
        for name, section in sections.items()
        for key, value in section.model_dump().items()
        if (text := _to_text(value)) is not None
    }


def _to_text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    return str(value)


def _read_file(file: Path | None, found: dict[str, dict[str, _Found]]) -> None:
    if file is None:
        return
    try:
        data = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise _invalid(f"cannot read the settings file {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _invalid(f"the settings file {file} is not TOML: {error}") from error
    for section, values in data.items():
        if section not in SECTIONS:
            raise _invalid(
                f"unknown section [{section}] in {file}; sections are {', '.join(SECTIONS)}"
            )
        if not isinstance(values, dict):
            raise _invalid(f"{section} in {file} must be a section: [{section}]")
        for key, value in values.items():
            found[section][key] = _Found(value, f"{file}: [{section}] {key}")


def _read_env(env: Mapping[str, str], found: dict[str, dict[str, _Found]]) -> None:
    for name, text in env.items():
        if not name.startswith(ENV_PREFIX) or name in _ENV_NOT_SETTINGS:
            continue
        section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("_")
        if section not in SECTIONS or not key:
            raise _invalid(
                f"unknown environment variable {name}; names are LEPTON_<section>_<key> "
                f"with a section of {', '.join(SECTIONS)}"
            )
        found[section][key] = _Found(text, f"environment variable {name}")


def _fill(name: str, cls: type[SectionT], found: Mapping[str, _Found]) -> SectionT:
    for key, item in found.items():
        if key not in cls.model_fields:
            raise _invalid(
                f"unknown setting {name}.{key} ({item.where}); {name} has {', '.join(cls.model_fields)}"
            )
    try:
        return cls.model_validate({key: item.value for key, item in found.items()})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        if first["type"] == "missing":
            raise _invalid(
                f"setting {name}.{key} is required: give --{key.replace('_', '-')}"
            ) from error
        where = found[key].where if key in found else "default"
        raise _invalid(f"setting {name}.{key} ({where}): {first['msg']}") from error


def _invalid(message: str) -> Conflict:
    return Conflict(message, reason=Reason.SETTING_INVALID)
