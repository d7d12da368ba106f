"""Writes the reference pages that are made from code: docs/settings.md, docs/telemetry.md and the JSON
schema of the WebSocket messages.

`--check` compares instead of writing and fails on a difference, so that the pages cannot drift.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from websocket_schema import schema_text

from agent.settings import AgentSettings
from common.cluster import ClusterSettings
from common.discovery.settings import DiscoverySettings
from common.limits import Limits
from common.settings import Section
from common.telemetry import names
from common.telemetry.fleet_metrics import FLEET_METRICS
from common.telemetry.gateway_metrics import GATEWAY_METRICS
from common.telemetry.router_metrics import ROUTER_METRICS
from common.telemetry.settings import TelemetrySettings
from common.telemetry.worker_metrics import WORKER_METRICS
from convert.settings import ConvertSettings
from gateway.settings import GatewaySettings
from router.settings import RouterSettings
from worker.oracle.settings import OracleSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

SECTIONS: dict[str, tuple[type[Section], str]] = {
    "router": (RouterSettings, "`lepton-router`"),
    "gateway": (GatewaySettings, "router and `lepton-gateway`"),
    "worker": (WorkerSettings, "`lepton-worker`"),
    "agent": (AgentSettings, "`lepton up`"),
    "discovery": (DiscoverySettings, "router and worker"),
    "telemetry": (TelemetrySettings, "every process"),
    "limits": (Limits, "router and worker"),
    "cluster": (ClusterSettings, "every process"),
    "convert": (ConvertSettings, "`lepton convert`, `lepton quantize`"),
    "oracle": (OracleSettings, '`lepton-worker` with `worker.engine = "oracle"`, a test engine'),
}


def main(arguments: list[str]) -> int:
    """Writes or checks every page; returns the exit code."""
    pages = {
        DOCS / "settings.md": "\n".join(_settings()),
        DOCS / "telemetry.md": "\n".join(_telemetry()),
        ROOT / "gateway" / "websocket" / "schema.json": schema_text(),
    }
    stale = [path for path, text in pages.items() if _read(path) != text]
    if "--check" in arguments:
        for path in stale:
            name = path.relative_to(ROOT)
            sys.stderr.write(f"{name} is not in step with the code; run `make docs`\n")
        return 1 if stale else 0
    for path in stale:
        path.write_text(pages[path], "utf-8")
        sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")
    return 0


def _read(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


def _settings() -> Iterator[str]:
    yield "# Settings"
    yield ""
    yield "Made from the code by `make docs`. A setting has three spellings, and flags outweigh the environment, which"
    yield "outweighs the file (`--config FILE` or `LEPTON_CONFIG`, TOML):"
    yield ""
    yield "| flag | environment | file |"
    yield "|---|---|---|"
    yield "| `--discovery.lease-ttl-s 5` | `LEPTON_DISCOVERY_LEASE_TTL_S=5` | `[discovery]` `lease_ttl_s = 5` |"
    yield ""
    yield "Flags of a process's own section may leave the section out: `lepton-router --port 50051`."
    yield "Lists are comma-separated outside the file. An unknown or malformed key is an error that names it."
    for name, (section, who) in SECTIONS.items():
        yield ""
        yield f"## `{name}`"
        yield ""
        yield f"Read by {who}."
        yield ""
        yield "| key | type | default | meaning |"
        yield "|---|---|---|---|"
        for key, info in section.model_fields.items():
            meaning = " ".join((info.description or "").split()).replace("|", "\\|")
            yield f"| `{key}` | {_type(info.annotation)} | {_default(info)} | {meaning} |"
    yield ""


def _type(annotation: Any) -> str:
    """What a value may be, in words that need no Python."""
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is tuple:
        return "list"
    if get_origin(annotation) is dict:
        return "table"
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return " or ".join(_type(kind) for kind in kinds)
    return _WORDS[annotation]


_WORDS: dict[Any, str] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Path: "path",
    SecretStr: "secret",
}


def _default(info: Any) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    if value is None or value in ((), {}) or str(value) == "":
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{','.join(map(str, value))}`"
    return f"`{value}`"


def _telemetry() -> Iterator[str]:
    yield "# Metrics and spans"
    yield ""
    yield "Made from `common/telemetry/names.py` by `make docs`. Metrics are on `/metrics` of every process"
    yield "(Prometheus text)."
    yield "Spans go to `OTEL_EXPORTER_OTLP_ENDPOINT` when it is set, else to files that `lepton trace` reads."
    yield ""
    yield "## Metrics"
    yield ""
    yield "| name | process | type | labels | meaning |"
    yield "|---|---|---|---|---|"
    for process, specs in (
        ("router", ROUTER_METRICS),
        ("router", FLEET_METRICS),
        ("HTTP door", GATEWAY_METRICS),
        ("worker", WORKER_METRICS),
    ):
        for spec in specs:
            labels = ", ".join(f"`{label}`" for label in spec.labels) or "–"
            yield f"| `{spec.name}` | {process} | {spec.kind} | {labels} | {spec.help} |"
    yield ""
    yield "## Spans"
    yield ""
    yield from _names("name", names.SPANS)
    yield ""
    yield "## Attributes"
    yield ""
    yield from _names("key", names.ATTRIBUTES)
    yield ""


def _names(head: str, meanings: Mapping[str, str]) -> Iterator[str]:
    yield f"| {head} | meaning |"
    yield "|---|---|"
    for name, meaning in meanings.items():
        yield f"| `{name}` | {meaning} |"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
