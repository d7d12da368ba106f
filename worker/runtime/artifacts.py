"""A model folder: which files it has, whether they are whole, what they say, and one hash over all that decides output.

    genai_config.json  model.onnx  [model.onnx.data]  tokenizer.json  tokenizer_config.json  [chat_template.jinja]
    [golden.json]  [manifest.json]                                   (layout of the onnxruntime-genai builder)

In the layout of Optimum config.json, with [generation_config.json], stands for genai_config.json.

Every fault is a `BadModel` whose message begins with the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from common.errors import BadModel, Reason
from worker.runtime.genai_config import GenaiConfig
from worker.runtime.optimum_config import GRAPH, OptimumConfig

__all__ = ["Artifact", "Golden", "GoldenMessage", "read_artifact"]

CONFIG: Final = "genai_config.json"
OPTIMUM_CONFIG: Final = "config.json"
GENERATION_CONFIG: Final = "generation_config.json"
TOKENIZER: Final = "tokenizer.json"
TOKENIZER_CONFIG: Final = "tokenizer_config.json"
CHAT_TEMPLATE: Final = "chat_template.jinja"
GOLDEN: Final = "golden.json"
MANIFEST: Final = "manifest.json"

READ_WHEN_THERE: Final = (CHAT_TEMPLATE, GOLDEN)

HASH_BLOCK_BYTES: Final = 1 << 20
JSON_BYTES_MAX: Final = 64 << 20
"""A tokenizer of 250,000 tokens takes about 20 MB."""

ModelT = TypeVar("ModelT", bound=BaseModel)


class GoldenMessage(BaseModel):
    """One message of a golden dialogue."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: str
    content: str
    name: str = ""
    tool_calls: ClassVar[tuple[()]] = ()
    tool_call_id: ClassVar[str] = ""


class Golden(BaseModel):
    """golden.json: a prompt whose greedy answer is known. A worker that answers otherwise does not serve."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    messages: list[GoldenMessage] = Field(default_factory=list)
    """A dialogue for the chat template, or …"""
    prompt: str | None = None
    """… plain text."""
    text: str
    """The whole answer, without its end token."""
    max_tokens: int = Field(default=64, ge=1, le=1024)


class _ManifestFile(BaseModel):
    """Size and hash of one file."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    bytes: int
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Manifest(BaseModel):
    """manifest.json: what the files were when the folder was published."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    files: dict[str, _ManifestFile]


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A folder that was read and found whole. The graph itself is checked by `worker.runtime.session`."""

    folder: Path
    config: GenaiConfig
    tokenizer_json: str
    chat_template: str | None
    """Jinja source; None for a model that has none."""
    named_tokens: Mapping[str, str]
    """bos_token, eos_token, pad_token and the like: name in templates → text."""
    golden: Golden | None
    revision: str
    """sha256 over the sorted (name, sha256) of the files that decide the output, hex."""

    @property
    def graph(self) -> Path:
        """The ONNX file; its weights lie beside it."""
        return self.folder / self.config.model.decoder.filename


def read_artifact(folder: Path) -> Artifact:
    """Reads and checks everything but the graph.

    Raises `BadModel`: MODEL_FILE_MISSING, MODEL_FILE_INVALID (unreadable, not JSON, wrong key or type, numbers that
    contradict each other, a hash that differs from manifest.json).
    """
    if not folder.is_dir():
        raise BadModel(f"{folder}: no such model folder", reason=Reason.MODEL_FILE_MISSING)
    config, config_files = _read_config(folder)
    if config.model.decoder.sliding_window is not None:
        raise BadModel(
            f"{CONFIG}: model.decoder.sliding_window is not supported; "
            "export with --extra_options windowed_kv_cache=false",
            reason=Reason.MODEL_GRAPH_UNSUPPORTED,
        )
    tokenizer_config = _read_json(folder / TOKENIZER_CONFIG)
    tokenizer_json = _read_text(folder / TOKENIZER)
    graph = config.model.decoder.filename
    required = {*config_files, TOKENIZER, TOKENIZER_CONFIG, graph}
    found = {
        path.name
        for path in folder.iterdir()
        if path.name == CHAT_TEMPLATE or _holds_weights(path.name, graph)
    }
    hashes = {name: _sha256(folder / name) for name in required | found}
    _check_manifest(folder, hashes, graph)
    golden = folder / GOLDEN
    return Artifact(
        folder=folder,
        config=config,
        tokenizer_json=tokenizer_json,
        chat_template=_chat_template(folder, tokenizer_config),
        named_tokens=_named_tokens(tokenizer_config),
        golden=_parse(Golden, _read_json(golden), GOLDEN) if golden.exists() else None,
        revision=_revision(hashes),
    )


def _read_config(folder: Path) -> tuple[GenaiConfig, list[str]]:
    """What the graph is, and the files that say so."""
    if (folder / CONFIG).exists() or not all(
        (folder / name).is_file() for name in (OPTIMUM_CONFIG, GRAPH)
    ):
        if not (folder / CONFIG).exists() and (folder / OPTIMUM_CONFIG).is_file():
            raise BadModel(
                f"{CONFIG}: not found in {folder}, which has a {OPTIMUM_CONFIG}: "
                "`lepton convert` makes a served folder of one from Hugging Face",
                reason=Reason.MODEL_FILE_MISSING,
            )
        return _parse(GenaiConfig, _read_json(folder / CONFIG), CONFIG), [CONFIG]
    files, data = [OPTIMUM_CONFIG], _read_json(folder / OPTIMUM_CONFIG)
    if (folder / GENERATION_CONFIG).is_file():
        files.append(GENERATION_CONFIG)
        ends = _read_json(folder / GENERATION_CONFIG).get("eos_token_id")
        data |= {} if ends is None else {"eos_token_id": ends}
    optimum = _parse(OptimumConfig, data, OPTIMUM_CONFIG)
    return _parse(GenaiConfig, optimum.as_genai(), OPTIMUM_CONFIG), files


def _holds_weights(name: str, graph: str) -> bool:
    """Whether it lies beside `graph`: model.onnx.data, model.onnx_data, model.onnx_data_1, as exporters call it."""
    return name.startswith((f"{graph}.data", f"{graph}_data"))


def _chat_template(folder: Path, tokenizer_config: dict[str, Any]) -> str | None:
    if (folder / CHAT_TEMPLATE).exists():
        return _read_text(folder / CHAT_TEMPLATE)
    template = tokenizer_config.get("chat_template")
    if isinstance(template, list):  # several named templates; the default one is for chat
        named = [item for item in template if isinstance(item, dict)]
        template = next(
            (item.get("template") for item in named if item.get("name") == "default"), None
        )
    if template is not None and not isinstance(template, str):
        raise _invalid(TOKENIZER_CONFIG, "chat_template must be text")
    return template


def _named_tokens(tokenizer_config: dict[str, Any]) -> dict[str, str]:
    """Entries such as "eos_token", plain or as {"content": …}."""
    tokens = {}
    for key, value in tokenizer_config.items():
        if not key.endswith("_token"):
            continue
        content = value.get("content") if isinstance(value, dict) else value
        if isinstance(content, str):
            tokens[key] = content
    return tokens


def _check_manifest(folder: Path, hashes: dict[str, str], graph: str) -> None:
    """Every file that we read must be what the manifest says; those that we do not read (a card) may have changed."""
    if not (folder / MANIFEST).exists():
        return
    manifest = _parse(_Manifest, _read_json(folder / MANIFEST), MANIFEST)
    for name, expected in sorted(manifest.files.items()):
        if name not in {*hashes, *READ_WHEN_THERE} and not _holds_weights(name, graph):
            continue
        actual = hashes.get(name) or _sha256(folder / name)
        if actual != expected.sha256:
            raise _invalid(
                name,
                f"is not what {MANIFEST} says: {(folder / name).stat().st_size} bytes instead of {expected.bytes}, "
                f"sha256 {actual[:12]}… instead of {expected.sha256[:12]}…",
            )


def _revision(hashes: dict[str, str]) -> str:
    whole = hashlib.sha256()
    for name, digest in sorted(hashes.items()):
        whole.update(f"{name}\0{digest}\n".encode())
    return whole.hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(HASH_BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise _unreadable(path, error) from error
    return digest.hexdigest()


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > JSON_BYTES_MAX:
            raise _invalid(path.name, f"is larger than {JSON_BYTES_MAX >> 20} MiB")
        return path.read_text("utf-8")
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise _invalid(path.name, f"is not UTF-8 (byte {error.start})") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(_read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise _invalid(path.name, f"is not JSON, or is cut off: {error}") from error
    if not isinstance(data, dict):
        raise _invalid(path.name, "must hold a JSON object")
    return data


def _parse(model: type[ModelT], data: dict[str, Any], name: str) -> ModelT:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _invalid(name, f"{where}: {first['msg']}" if where else first["msg"]) from error


def _unreadable(path: Path, error: OSError) -> BadModel:
    if isinstance(error, FileNotFoundError):
        return BadModel(
            f"{path.name}: not found in {path.parent}", reason=Reason.MODEL_FILE_MISSING
        )
    return _invalid(path.name, f"cannot be read: {error.strerror}")


def _invalid(name: str, what: str) -> BadModel:
    return BadModel(f"{name}: {what}", reason=Reason.MODEL_FILE_INVALID)
