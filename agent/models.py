"""Which models a local cluster serves, before anything is started: found, named, told apart."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.errors import BadModel, Conflict, Reason

__all__ = ["ModelChoice", "choose_models", "find_demo"]

_CONFIG: Final = "genai_config.json"
_OPTIMUM: Final = ("config.json", "model.onnx")
"""What an Optimum export has instead."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """One model to serve."""

    name: str
    """What requests call it."""
    folder: Path
    """Absolute path of the model folder."""


def choose_models(choices: Sequence[str]) -> tuple[ModelChoice, ...]:
    """`DIR` or `NAME=DIR` each; without any, the demo model.

    Raises `BadModel(MODEL_FILE_MISSING)` for a folder that holds no model, `Conflict(SETTING_INVALID)` for names that
    cannot be used or stand twice.
    """
    models = tuple(_choose(text) for text in choices) or (find_demo(),)
    names = [model.name for model in models]
    for name in names:
        if not _NAME.fullmatch(name):
            raise _invalid(f"{name!r} cannot be a model name; say --model NAME=DIR")
        if names.count(name) > 1:
            raise _invalid(f"two models are called {name!r}; tell them apart: --model NAME=DIR")
    return models


def find_demo() -> ModelChoice:
    """The model that comes with Lepton: in a checkout, or where the package put it.

    Raises `BadModel(MODEL_FILE_MISSING)` naming both places.
    """
    places = (
        Path(__file__).resolve().parents[1] / "models" / "demo",
        Path(sys.prefix) / "share" / "lepton" / "models" / "demo",
    )
    for place in places:
        if (place / _CONFIG).is_file():
            return ModelChoice(name=place.name, folder=place)
    raise BadModel(
        f"the demo model is not there (looked in {' and '.join(map(str, places))}); name another with --model DIR",
        reason=Reason.MODEL_FILE_MISSING,
    )


def _choose(text: str) -> ModelChoice:
    name, equals, path = text.rpartition("=")
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        what = (
            "is a file; name the folder it is in"
            if folder.exists()
            else "does not exist; models are folders on this machine, nothing is downloaded"
        )
        raise BadModel(f"the model folder {folder} {what}", reason=Reason.MODEL_FILE_MISSING)
    if not (folder / _CONFIG).is_file() and not all((folder / name).is_file() for name in _OPTIMUM):
        # What people have on their disks comes from Hugging Face, as a rule.
        how = (
            f"; `lepton convert {folder} OUT` makes one of it"
            if (folder / _OPTIMUM[0]).is_file()
            else ""
        )
        raise BadModel(
            f"{folder} is no model folder: it has no {_CONFIG}, nor {' and '.join(_OPTIMUM)}{how}",
            reason=Reason.MODEL_FILE_MISSING,
        )
    return ModelChoice(name=name if equals else folder.resolve().name, folder=folder)


def _invalid(message: str) -> Conflict:
    return Conflict(message, reason=Reason.SETTING_INVALID)
