"""manifest.json: what a served folder is made of, and size and SHA-256 of its files, to which workers hold them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from convert.result import Facts

__all__ = ["write_json", "write_manifest"]

MANIFEST: Final = "manifest.json"


def write_manifest(
    folder: Path, facts: Facts, accuracy: Mapping[str, Mapping[str, Any]] | None
) -> None:
    """Over all files that are in `folder` now; the card comes later, since people may edit it."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST)
    manifest = {
        "name": facts.name,
        **facts.storage.record(),
        "source": facts.source,
        "family": facts.family,
        "parameters": facts.num_parameters,
        "license": facts.license,
        "context_max": facts.context_max,
        "made_by": facts.made_by,
        "packages": dict(facts.packages),
        "accuracy": accuracy,
        "files": {
            path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in files
        },
    }
    write_json(folder / MANIFEST, manifest)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """For people, too."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
