"""What a conversion ends in: the folder, and what there is to say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.precision import Storage

__all__ = ["Facts", "Result"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Where a model comes from and how it was made; goes into manifest and card."""

    name: str
    """Name of the served folder, which `lepton up` takes for the model's name."""
    source: str
    """Name of the folder that it was made of."""
    family: str
    num_parameters: int
    license: str | None
    """As the source names it."""
    context_max: int | None
    """Most tokens that the folder serves, when that is less than the source's own limit."""
    storage: Storage
    made_by: str
    """For example "lepton 0.1.0"."""
    command: str
    """The command line, without folders of this machine."""
    packages: Mapping[str, str]
    """What did the work → its version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A folder that workers serve."""

    folder: Path
    facts: Facts
    revision: str
    """Content hash, as workers report it."""
    source_bytes: int
    """Weights of the source."""
    weight_bytes: int
    """Weights of the result."""
    golden: Mapping[str, Any] | None
    """golden.json; None when no token of the answer was beyond doubt."""
    accuracy: Mapping[str, Mapping[str, Any]] | None
    """Form of the weights → cost against fp32; None for fp32 itself, and when it was not asked for."""

    def record(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "folder": str(self.folder),
            "revision": self.revision,
            "source": self.facts.source,
            "family": self.facts.family,
            "parameters": self.facts.num_parameters,
            "license": self.facts.license,
            "context_max": self.facts.context_max,
            **self.facts.storage.record(),
            "source_bytes": self.source_bytes,
            "weight_bytes": self.weight_bytes,
            "golden": self.golden,
            "accuracy": self.accuracy,
            "packages": dict(self.facts.packages),
        }
