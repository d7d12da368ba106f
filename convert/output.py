"""Where the result goes: nothing is there until all of it is.

<parent>/.<name>.<random>/   scratch, on the same disk; removed whatever happens, after a kill -9 by the next run
    lock                     held while somebody works in it
    result/                  becomes <parent>/<name> in one step
<parent>/<name>.log          what the tools wrote; kept only when something failed
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Final

from common.errors import Conflict, Reason

__all__ = ["Scratch", "check_output", "check_room", "scratch_for"]

_LOCK: Final = "lock"
ROOM_FACTOR: Final = 1.1
"""For what lies beside the weights, and for rounding up to blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """A folder for one conversion."""

    folder: Path
    out: Path
    """What the result will be called."""
    log: Path

    @property
    def result(self) -> Path:
        """Becomes `out`."""
        return self.folder / "result"

    def publish(self) -> None:
        """Puts the result in its place, at once; an empty folder there gives way."""
        for path in self.result.rglob("*"):
            if path.is_file():
                path.chmod(0o644)  # some tools write for their owner alone
        self.result.chmod(0o755)
        self.result.replace(self.out)


def check_output(out: Path) -> None:
    """Raises `Conflict(OUTPUT_EXISTS)` when something other than an empty folder is there."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Conflict(
            f"{out} exists{' and is not empty' if out.is_dir() else ''}; name another folder, or remove it",
            reason=Reason.OUTPUT_EXISTS,
        )


def check_room(out: Path, num_bytes: int) -> None:
    """Raises `Conflict(DISK_SPACE_SHORT)` unless the disk of `out` has room for `num_bytes` of weights."""
    there = next(path for path in out.absolute().parents if path.exists())
    needed, free = int(num_bytes * ROOM_FACTOR), shutil.disk_usage(there).free
    if free < needed:
        raise Conflict(
            f"{there}: {needed / 1e6:,.0f} MB are needed for a while, {free / 1e6:,.0f} MB are free",
            reason=Reason.DISK_SPACE_SHORT,
        )


@contextlib.contextmanager
def scratch_for(out: Path) -> Iterator[Scratch]:
    """A scratch folder beside `out`. Raises `Conflict(SETTING_INVALID)` where it cannot be made."""
    out = out.absolute()
    log = out.with_name(f"{out.name}.log")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _sweep(out)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        lock = (folder / _LOCK).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go of by the kernel, should we die
    except OSError as error:
        raise Conflict(
            f"{out.parent}: cannot be written: {error.strerror}", reason=Reason.SETTING_INVALID
        ) from error
    try:
        log.unlink(missing_ok=True)
        yield Scratch(folder=folder, out=out, log=log)
        log.unlink(missing_ok=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _sweep(out: Path) -> None:
    """Removes what killed runs left: as large as the model, and hidden."""
    for folder in out.parent.glob(f".{escape(out.name)}.*"):
        try:
            with (folder / _LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
        except OSError:
            continue  # not ours, or somebody works in it
