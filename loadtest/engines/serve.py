"""One engine in this process: a line of JSON in, a line of JSON out, until stdin ends.

`python -m loadtest.engines.serve lepton DIR --threads 2`

    {"do": "prefill", "prompt": [ids]}                  → {"seconds": s}
    {"do": "decode", "prompts": [[ids]], "tokens": m}   → the fields of `Decoded`
    {"do": "memory"}                                    → {"rss": bytes, "peak": bytes}
    {"do": "logits", "prompts": [[ids]], "file": path}  → {} and float32 [prompts, vocab] in that .npy file, or
                                                          {"cannot": why}

The first line is what the engine says of itself, or {"cannot": why}. What else the engine prints goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import LeptonError
from loadtest.engines.api import Engine
from loadtest.engines.registry import ENGINES, open_engine

__all__ = ["main"]


def main() -> None:
    """Serves until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=tuple(ENGINES))
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows-max", type=int, default=32)
    parser.add_argument("--context-max", type=int, default=2048)
    parser.add_argument("--provider", help="of Lepton: cpu, cuda, tensorrt")
    wish = parser.parse_args()
    # Libraries print where they like; the answers keep a way of their own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is the caller's to explain
    try:
        engine = open_engine(
            wish.engine,
            wish.model,
            threads=wish.threads,
            rows_max=wish.rows_max,
            context_max=wish.context_max,
            **({"provider": wish.provider} if wish.provider else {}),
        )
    except LeptonError as error:
        print(json.dumps({"cannot": error.message}), file=answers)
        sys.exit(1)
    print(json.dumps({**asdict(engine.facts), "loaded_rss": _memory()["rss"]}), file=answers)
    for line in sys.stdin:
        print(json.dumps(_answer(engine, json.loads(line))), file=answers)
    engine.close()


def _answer(engine: Engine, wish: dict[str, Any]) -> dict[str, Any]:
    match wish["do"]:
        case "prefill":
            return {"seconds": engine.prefill(wish["prompt"])}
        case "decode":
            return asdict(engine.decode(wish["prompts"], wish["tokens"]))
        case "memory":
            return _memory()
        case "logits":
            try:
                found = engine.logits(wish["prompts"])
            except (
                Exception
            ) as error:  # a library that cannot must not cost the figures that are there
                return {"cannot": f"{type(error).__name__}: {error}"}
            np.save(wish["file"], found)
            return {}
        case other:
            raise ValueError(f"what is {other!r}?")


def _memory() -> dict[str, int]:
    """Resident now and at most, bytes; of a program that the engine starts anew each time its most. Linux."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    kib = {key: int(value.split()[0]) for key, _, value in (line.partition(":") for line in lines)
           if key in ("VmRSS", "VmHWM")}  # fmt: skip
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"rss": max(kib["VmRSS"], child) << 10, "peak": max(kib["VmHWM"], child) << 10}


if __name__ == "__main__":
    main()
