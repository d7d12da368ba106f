"""Every command of `lepton`: in which group of the help it stands, and a line to try."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cli.batch.command import run_batch
from cli.bench.command import bench
from cli.chat.command import chat
from cli.completion import completion
from cli.convert import convert
from cli.doctor import doctor
from cli.generate import generate
from cli.models import models
from cli.ps import ps
from cli.quantize import quantize
from cli.route import route
from cli.top.command import top
from cli.trace import trace
from cli.up import up
from cli.version import version

__all__ = ["COMMANDS", "TEST", "Command"]

_RUN: Final = "Run a cluster"
_ASK: Final = "Ask it"
_LOOK: Final = "Look inside"
_MODELS: Final = "Models"
TEST: Final = "Test and measure"
_SELF: Final = "The command itself"


@dataclass(frozen=True, slots=True)
class Command:
    """One of them."""

    group: str
    function: Callable[..., Any]
    example: str
    """A line to paste, after `lepton`."""


COMMANDS: Final = (
    Command(_RUN, up, "up --workers 2"),
    Command(_RUN, doctor, "doctor"),
    Command(_ASK, generate, 'generate "What is 27 + 35?"'),
    Command(_ASK, chat, 'chat --system "Answer in one sentence."'),
    Command(_ASK, run_batch, "run-batch -i requests.jsonl -o answers.jsonl"),
    Command(_LOOK, ps, "ps"),
    Command(_LOOK, top, "top"),
    Command(_LOOK, trace, "trace"),
    Command(_LOOK, route, 'route --explain "What is 27 + 35?"'),
    Command(_MODELS, models, "models"),
    Command(_MODELS, convert, "convert HF_FOLDER DIR"),
    Command(_MODELS, quantize, "quantize DIR OTHER_DIR"),
    Command(TEST, bench, "bench --rate 2,4,8 --slo ttft=200ms --report r.html"),
    Command(_SELF, completion, "completion bash"),
    Command(_SELF, version, "version"),
)
