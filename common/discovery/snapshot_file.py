"""The last snapshot as a file, so that a router that starts while etcd is away knows its workers."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Final, final

from common.clock import Clock
from common.discovery.api import Snapshot
from common.discovery.codec import FORMAT, BadValue, from_fields
from common.logs import get_logger

__all__ = ["SnapshotFile"]

_BYTES_MAX: Final = 256 << 20

log = get_logger(__name__)


@final
class SnapshotFile:
    """Writes by rename: a reader sees the old file or the new one. Neither method raises; trouble is logged."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    def save(self, snapshot: Snapshot) -> None:
        """Replaces the file. Blocks for a small write to a local disk."""
        content = {
            "saved_at": self._clock.wall(),
            "instances": [{"format": FORMAT, **asdict(it)} for it in snapshot.instances.values()],
        }
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(content, indent=1), "utf-8")
            temporary.replace(self._path)
        except OSError as error:
            log.warning("discovery.snapshot_not_saved", file=str(self._path), error=str(error))

    def load(self) -> Snapshot | None:
        """What was saved last, marked stale; None when there is nothing, or nothing readable."""
        try:
            if self._path.stat().st_size > _BYTES_MAX:
                raise BadValue(f"more than {_BYTES_MAX} bytes")
            content = json.loads(self._path.read_bytes())
            if not isinstance(content, dict) or not isinstance(content.get("instances"), list):
                raise BadValue("not a snapshot")
            instances = [from_fields(fields) for fields in content["instances"]]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            log.warning("discovery.snapshot_not_read", file=str(self._path), error=str(error))
            return None
        log.info(
            "discovery.snapshot_read",
            file=str(self._path),
            instances=len(instances),
            saved_at=content.get("saved_at"),
        )
        return Snapshot(instances={it.id: it for it in instances}, stale=True)
