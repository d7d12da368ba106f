"""The last snapshot as a file, so that a router that starts while etcd is away knows its workers."""

from __future__ import annotations

import json
import os
import threading
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
        self._saving = threading.Lock()

    def save(self, snapshot: Snapshot) -> None:
        """Replaces the file. Blocks for a write to a local disk; may be called from any thread."""
        content = {
            "saved_at": self._clock.wall(),
            "instances": [{"format": FORMAT, **asdict(it)} for it in snapshot.instances.values()],
        }
        # Of this process alone: two routers may keep the same file.
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        try:
            with self._saving:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_text(json.dumps(content), "utf-8")
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
