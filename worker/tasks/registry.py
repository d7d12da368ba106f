"""The table of tasks: name → how it is made. The registry entry of a worker and `ListModels` show the names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from common.clock import Clock
from worker.engine.loop import EngineLoop
from worker.tasks.api import ModelFacts, Task
from worker.tasks.generate import GenerateTask
from worker.tasks.ports import GrammarCompiler
from worker.tasks.tokenizer_pool import TokenizerPool

__all__ = ["TASKS", "make_tasks"]

TASKS: Final[Mapping[str, Callable[..., Task]]] = {
    "generate": GenerateTask,
}


def make_tasks(
    *,
    model: ModelFacts,
    tokenizers: TokenizerPool,
    grammars: GrammarCompiler,
    engine: EngineLoop,
    clock: Clock,
) -> dict[str, Task]:
    """Every task that a generative model can do."""
    return {
        name: make(
            model=model, tokenizers=tokenizers, grammars=grammars, engine=engine, clock=clock
        )
        for name, make in TASKS.items()
    }
