"""A Hugging Face model folder, judged before anything is installed, computed or written.

    config.json  model.safetensors | model.safetensors.index.json + shards  tokenizer.json  [README.md]

Source of the weights' layout: the safetensors format (8 bytes of length, a JSON header, the tensors).
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer

from common.errors import BadModel, Reason
from worker.conversion.layers import check_layers
from worker.runtime.models.family import ModelFamily
from worker.runtime.models.registry import FAMILIES

__all__ = ["Source", "read_source"]

CONFIG: Final = "config.json"
TOKENIZER: Final = "tokenizer.json"
WEIGHTS: Final = "model.safetensors"
WEIGHTS_INDEX: Final = "model.safetensors.index.json"
CARD: Final = "README.md"

JSON_BYTES_MAX: Final = 64 << 20
HEADER_BYTES_MAX: Final = 100 << 20
"""Of a safetensors file; the format itself sets this bound."""

_NAME: Final = re.compile(r"[\w.+-]+")
_LICENSE: Final = re.compile(rf"^license:\s*[\"']?({_NAME.pattern})", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a folder says of itself."""

    name: str
    """Name of the folder."""
    family: str
    """Name of the model family (`worker.runtime.models`)."""
    architecture: str
    """Hugging Face class."""
    num_parameters: int
    """Numbers in the weights; a matrix that two layers share counts once."""
    weight_bytes: int
    """Size of the weight files."""
    context_max: int | None
    """Most tokens for which the export is right (`ModelFamily.keeps_window`); None: as many as the model allows."""
    license: str | None
    """As the folder's README.md or config.json names it; None when neither does."""

    def record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class _WeightFile:
    """What the header of a safetensors file says."""

    names: frozenset[str]
    num_parameters: int
    num_bytes: int


def read_source(folder: Path) -> Source:
    """Reads what is small and looks at the rest.

    Raises `BadModel`: MODEL_FILE_MISSING, MODEL_FILE_INVALID, MODEL_TOKENIZER_INVALID, MODEL_ARCHITECTURE_UNSUPPORTED.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "no such folder"
        raise _missing(f"{folder}: {what}; name a local Hugging Face model folder")
    if not (folder / CONFIG).is_file():
        served = (folder / "genai_config.json").is_file()
        what = "it is a served model already" if served else "this is no Hugging Face model folder"
        raise _missing(f"{CONFIG}: not found in {folder}; {what}")
    config = _read_json(folder / CONFIG)
    family, architecture = _family(config)
    _check_tokenizer(folder)
    files = [_weights(path) for path in _weight_files(folder)]
    check_layers((name for file in files for name in file.names), config.get("num_hidden_layers"))
    return Source(
        name=folder.resolve().name,
        family=family.name,
        architecture=architecture,
        num_parameters=sum(file.num_parameters for file in files),
        weight_bytes=sum(file.num_bytes for file in files),
        context_max=_context_max(family, config),
        license=_license(folder, config),
    )


def _family(config: dict[str, Any]) -> tuple[ModelFamily, str]:
    model_type, architectures = config.get("model_type"), config.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise _invalid(
            CONFIG, "architectures must name the model's class, such as LlamaForCausalLM"
        )
    architecture = str(architectures[0])
    for family in FAMILIES:
        if model_type in family.model_types and architecture in family.architectures:
            break
    else:
        known = ", ".join(sorted(name for family in FAMILIES for name in family.architectures))
        raise BadModel(
            f"{CONFIG}: {architecture} (model_type {model_type!r}) is not an architecture that workers serve ({known})",
            reason=Reason.MODEL_ARCHITECTURE_UNSUPPORTED,
        )
    _check_widths(config)
    if config.get("quantization_config"):
        raise BadModel(
            f"{CONFIG}: the weights are quantised already (quantization_config); convert the original ones",
            reason=Reason.MODEL_ARCHITECTURE_UNSUPPORTED,
        )
    return family, architecture


def _check_widths(config: dict[str, Any]) -> None:
    """The builder takes the first product with as many outputs as there are tokens for the last one of the model."""
    sizes = {key: config.get(key) for key in ("intermediate_size", "hidden_size")}
    fused = sizes["intermediate_size"]
    sizes["intermediate_size (gate and up)"] = 2 * fused if isinstance(fused, int) else None
    for key, size in sizes.items():
        if size is not None and size == config.get("vocab_size"):
            raise BadModel(
                f"{CONFIG}: {key} is as large as vocab_size ({size}), which the builder exports wrongly; "
                "widen the vocabulary or the layer with zeros",
                reason=Reason.MODEL_ARCHITECTURE_UNSUPPORTED,
            )


def _context_max(family: ModelFamily, config: dict[str, Any]) -> int | None:
    window = config.get("sliding_window")
    if family.keeps_window or window is None:
        return None
    if not isinstance(window, int) or window < 1:
        raise _invalid(CONFIG, f"sliding_window {window!r} must be a whole number from 1")
    return window


def _check_tokenizer(folder: Path) -> None:
    path = folder / TOKENIZER
    if not path.is_file():
        slow = (folder / "tokenizer.model").is_file() or (folder / "vocab.json").is_file()
        how = (
            "; save it once with `AutoTokenizer.from_pretrained(…).save_pretrained(…)`"
            if slow
            else ""
        )
        raise _missing(f"{TOKENIZER}: not found in {folder}{how}")
    try:
        Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise BadModel(
            f"{TOKENIZER}: cannot be read: {error}", reason=Reason.MODEL_TOKENIZER_INVALID
        ) from error


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / WEIGHTS_INDEX).is_file():
        pickled = any(folder.glob("pytorch_model*.bin"))
        how = "; pickled weights are not read, save them as safetensors" if pickled else ""
        raise _missing(f"{WEIGHTS}: not found in {folder}{how}")
    places = _read_json(folder / WEIGHTS_INDEX).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise _invalid(WEIGHTS_INDEX, "weight_map must say in which file each tensor is")
    names = sorted({str(name) for name in places.values()})
    for name in names:
        if "/" in name or name in {".", ".."}:
            raise _invalid(WEIGHTS_INDEX, f"{name!r} must be a plain name in the folder")
        if not (folder / name).is_file():
            raise _missing(f"{name}: not found in {folder}, but {WEIGHTS_INDEX} names it")
    return [folder / name for name in names]


def _weights(path: Path) -> _WeightFile:
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(HEADER_BYTES_MAX, size - 8):
                raise _invalid(path.name, "is no safetensors file, or is cut off")
            tensors = json.loads(file.read(length))
        tensors.pop("__metadata__", None)
        end = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
        numbers = sum(math.prod(tensor["shape"]) for tensor in tensors.values())
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise _invalid(path.name, f"is no safetensors file: {error}") from error
    except OSError as error:
        raise _invalid(path.name, f"cannot be read: {error.strerror}") from error
    if size != 8 + length + end:
        raise _invalid(path.name, f"is cut off: {size} bytes instead of {8 + length + end}")
    return _WeightFile(names=frozenset(tensors), num_parameters=numbers, num_bytes=size)


def _license(folder: Path, config: dict[str, Any]) -> str | None:
    """From the card's front matter, else from the configuration."""
    card = folder / CARD
    if card.is_file() and card.stat().st_size <= JSON_BYTES_MAX:
        parts = card.read_text("utf-8", errors="replace").split("---", 2)
        if len(parts) == 3 and not parts[0].strip() and (found := _LICENSE.search(parts[1])):
            return found.group(1)
    named = config.get("license")
    return named if isinstance(named, str) and _NAME.fullmatch(named) else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > JSON_BYTES_MAX:
            raise _invalid(path.name, f"is larger than {JSON_BYTES_MAX >> 20} MiB")
        data = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise _invalid(path.name, f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _invalid(path.name, f"is not JSON, or is cut off: {error}") from error
    if not isinstance(data, dict):
        raise _invalid(path.name, "must hold a JSON object")
    return data


def _missing(message: str) -> BadModel:
    return BadModel(message, reason=Reason.MODEL_FILE_MISSING)


def _invalid(name: str, what: str) -> BadModel:
    return BadModel(f"{name}: {what}", reason=Reason.MODEL_FILE_INVALID)
