"""The Python environment of the conversion: PyTorch, transformers and the builder, away from what serves.

    <folder>/lock          held while it is made; also says that the folder is ours
    <folder>/venv/         the environment
    <folder>/ready         hash of the requirements that are installed; written last
    <folder>/install.log

Without `ready`, or with other requirements in it, `venv/` is half-made or old and is made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, final

from common.errors import Conflict, Reason, Unavailable
from convert.process import run_logged
from convert.settings import STEP_S_MAX

__all__ = ["DISK_BYTES", "DOWNLOAD_BYTES", "Environment", "default_environment"]

REQUIREMENTS: Final = Path(__file__).with_name("builder.lock")
"""Every package with its version and hashes, for every platform; `make lock` writes it."""

DOWNLOAD_BYTES: Final = 3_100_000_000
"""On Linux, x86-64; three quarters of it are the CUDA libraries that PyTorch's wheel on PyPI asks for."""
DISK_BYTES: Final = 6_000_000_000


def default_environment(env: Mapping[str, str]) -> Path:
    """`$XDG_DATA_HOME/lepton/convert`, by default in ~/.local/share."""
    home = env.get("XDG_DATA_HOME", "")
    base = Path(home) if home.startswith("/") else Path.home() / ".local" / "share"
    return base / "lepton" / "convert"


@final
class Environment:
    """One environment on disk."""

    def __init__(
        self, folder: Path, requirements: Path = REQUIREMENTS, *, seconds_max: float = STEP_S_MAX
    ) -> None:
        """`seconds_max` bounds the installation."""
        self._seconds_max = seconds_max
        self.folder = folder.absolute()
        self._requirements = requirements
        self._venv = self.folder / "venv"
        self._ready = self.folder / "ready"
        self.log = self.folder / "install.log"

    @property
    def python(self) -> Path:
        """Its interpreter; runs once `is_ready`."""
        return self._venv / "bin" / "python"

    @property
    def is_ready(self) -> bool:
        """Whether the requirements of this release are installed, all of them."""
        try:
            return self._ready.read_text("utf-8").strip() == self._wanted() and self.python.exists()
        except OSError:
            return False

    def install(self) -> None:
        """Makes it, or mends it; returns when it is ready. Two at the same time wait for each other.

        Raises `Conflict(SETTING_INVALID)` when the folder is somebody else's or cannot be written,
        `Conflict(DISK_SPACE_SHORT)`, and `Unavailable(TOOL_INSTALL_FAILED)` naming the log.
        """
        with self._lock():
            if self.is_ready:
                return
            self._ready.unlink(missing_ok=True)
            shutil.rmtree(self._venv, ignore_errors=True)
            free = shutil.disk_usage(self.folder).free
            if free < DISK_BYTES:
                raise Conflict(
                    f"{self.folder}: {DISK_BYTES / 1e9:.0f} GB are needed, {free / 1e9:.1f} GB are free; choose "
                    "another place with --environment",
                    reason=Reason.DISK_SPACE_SHORT,
                )
            self.log.unlink(missing_ok=True)
            for command in self._commands():
                if (
                    failed := run_logged(
                        command, log=self.log, cwd=self.folder, seconds_max=self._seconds_max
                    )
                ) is not None:
                    raise Unavailable(
                        f"the packages of the conversion could not be installed: {failed} ({self.log})",
                        reason=Reason.TOOL_INSTALL_FAILED,
                    )
            draft = self.folder / "ready.new"
            draft.write_text(self._wanted() + "\n", "utf-8")
            draft.replace(self._ready)

    def _commands(self) -> list[list[str]]:
        """With uv where it is at hand (it keeps downloads and links them), else with pip."""
        uv, requirements = _find_uv(), str(self._requirements)
        if uv is not None:
            return [
                [sys.executable, "-m", "venv", "--without-pip", str(self._venv)],
                [uv, "pip", "install", "--python", str(self.python), "--require-hashes", "-r", requirements],
            ]  # fmt: skip
        return [
            [sys.executable, "-m", "venv", str(self._venv)],
            [
                str(self.python), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off",
                "--require-hashes", "-r", requirements,
            ],
        ]  # fmt: skip

    def _wanted(self) -> str:
        return hashlib.sha256(self._requirements.read_bytes()).hexdigest()

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        lock = self.folder / "lock"
        # In this order: another one of us that begins at this moment writes its lock before anything else.
        if self.folder.exists() and any(self.folder.iterdir()) and not lock.exists():
            raise Conflict(
                f"{self.folder}: holds something that is not ours; choose an empty folder with --environment",
                reason=Reason.SETTING_INVALID,
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = lock.open("a")
        except OSError as error:
            raise Conflict(
                f"{self.folder}: cannot be written: {error.strerror}; choose another with --environment",
                reason=Reason.SETTING_INVALID,
            ) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)  # let go of by the kernel, should we die
            yield


def _find_uv() -> str | None:
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("uv")
