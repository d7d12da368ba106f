"""Write what a worker checks before it serves the folder: golden.json and manifest.json.

`python -m training.demo.publish models/demo RUN_DIR --same FP32_DIR INT8_DIR`
"""

import argparse
import hashlib
import json
import subprocess
from pathlib import Path

from training.demo.evaluate import Model

GOLDEN_QUESTION = "What is Lepton?"
GOLDEN_TOKENS_MAX = 64
NAME = "lepton-demo"
UNLISTED = ("manifest.json", "README.md")
"""Files that may change without making it another model."""


def write_golden(folder: Path, others: list[Path]) -> None:
    """Record the greedy answer to the golden question; every precision must give the same."""
    messages = [{"role": "user", "content": GOLDEN_QUESTION}]
    texts = {path: Model(path).answer(messages, GOLDEN_TOKENS_MAX) for path in (folder, *others)}
    if len(set(texts.values())) != 1:
        raise RuntimeError(f"the golden answer differs between precisions: {texts}")
    golden = {"messages": messages, "max_tokens": GOLDEN_TOKENS_MAX, "text": texts[folder]}
    _write(folder / "golden.json", golden)


def write_manifest(folder: Path, run: Path) -> None:
    """Record name, precision, origin, and the size and SHA-256 of every file but the card."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        "name": NAME,
        "precision": "int4",
        "block_size": 32,
        "accuracy_level": 4,
        "training": json.loads((run / "training.json").read_text(encoding="utf-8"))
        | {"commit": _commit()},
        "files": {
            path.relative_to(folder).as_posix(): {
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for path in files
            if path.name not in UNLISTED
        },
    }
    _write(folder / "manifest.json", manifest)


def _commit() -> str:
    """Name the commit that last changed the training code."""
    command = ["git", "log", "-1", "--format=%H", "--", str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--same", type=Path, nargs="*", default=[])
    arguments = parser.parse_args()
    write_golden(arguments.folder, arguments.same)
    write_manifest(arguments.folder, arguments.run)


if __name__ == "__main__":
    main()
