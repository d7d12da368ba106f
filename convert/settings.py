"""Settings of conversions."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import Field

from common.settings import Section

__all__ = ["STEP_S_MAX", "ConvertSettings"]

STEP_S_MAX: Final = 14_400.0


class ConvertSettings(Section):
    """Section `convert`."""

    python: Path | None = None
    """Interpreter of an environment that has PyTorch and onnxruntime-genai. Default: an environment of our own."""
    environment: Path | None = None
    """Where our own is, or is made. Default: `$XDG_DATA_HOME/lepton/convert`, which is in `~/.local/share`."""
    step_s_max: float = Field(default=STEP_S_MAX, gt=0)
    """Longest time for one step (the installation, an export, a measurement), seconds; beyond it the step is ended."""
