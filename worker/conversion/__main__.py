"""`python -m worker.conversion QUESTION FOLDER …`: one JSON object, or the error that a worker would refuse with."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.oneshot import answer

__all__ = ["main"]


def main() -> int:
    """Answers the question of the command line."""
    arguments = _parser().parse_args()
    return answer(lambda: _handle(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m worker.conversion", description=__doc__)
    questions = parser.add_subparsers(dest="question", required=True)
    for name in ("source", "served", "golden", "check"):
        questions.add_parser(name).add_argument("folder", type=Path)
    accuracy = questions.add_parser("accuracy")
    accuracy.add_argument("reference", type=Path)
    accuracy.add_argument("folder", type=Path)
    quantize = questions.add_parser("quantize")
    quantize.add_argument("folder", type=Path)
    quantize.add_argument("out", type=Path)
    quantize.add_argument("--bits", type=int, choices=(4, 8), required=True)
    quantize.add_argument("--block-size", type=int, required=True)
    quantize.add_argument("--algorithm", choices=("default", "k_quant", "rtn"), required=True)
    quantize.add_argument("--accuracy-level", type=int, required=True)
    return parser


def _handle(arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Imports what the question needs and no more: reading a source takes no ONNX Runtime."""
    folder: Path = arguments.folder
    if arguments.question == "source":
        from worker.conversion.source import read_source

        return read_source(folder).record()
    if arguments.question == "served":
        from worker.conversion.served import read_served

        return read_served(folder).record()
    if arguments.question == "golden":
        from worker.conversion.golden import golden_of

        return {"golden": golden_of(folder)}
    if arguments.question == "accuracy":
        from worker.conversion.accuracy import measure

        return {
            name: found.record() for name, found in measure(arguments.reference, folder).items()
        }
    if arguments.question == "quantize":
        from worker.conversion.quantizer import Rounding, quantize

        rounding = Rounding(
            bits=arguments.bits,
            block_size=arguments.block_size,
            algorithm=arguments.algorithm,
            accuracy_level=arguments.accuracy_level,
        )
        return {"packages": quantize(folder, arguments.out, rounding)}
    from worker.conversion.served import check_served

    return check_served(folder)


if __name__ == "__main__":
    sys.exit(main())
