"""What a worker needs in the place of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import grpc

from common.errors import Unsupported
from common.oracle import EOS_ID, VOCAB_SIZE
from worker.engine.grammar import Constraint, Grammar
from worker.engine.ports import CacheLayout
from worker.oracle.faults import FaultInterceptor
from worker.oracle.runner import OracleRunner, Pace
from worker.oracle.settings import OracleSettings
from worker.oracle.tokenizer import OracleTokenizer
from worker.settings import WorkerSettings
from worker.tasks.api import ModelFacts

__all__ = ["Oracle", "open_oracle"]

_CONTEXT: Final = 4096
_BLOCKS_PER_MIB: Final = 16
FINGERPRINT: Final = "oracle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Oracle:
    """The parts of a `worker.serving.WorkerParts` that depend on the model."""

    model: ModelFacts
    tokenizer: OracleTokenizer
    grammars: NoGrammars
    runner: OracleRunner
    interceptors: tuple[grpc.aio.ServerInterceptor, ...]


class NoGrammars:
    """Refuses every constraint: the oracle draws what it draws."""

    async def compile(
        self, constraint: Constraint, *, is_bounded: bool = True
    ) -> tuple[Grammar, bool]:
        """Raises `Unsupported(CONSTRAINT_UNSUPPORTED)`."""
        del constraint, is_bounded
        raise Unsupported(
            "the oracle engine knows no constraints; ask a worker with a model", field="constraint"
        )

    async def close(self) -> None:
        """Nothing to end."""


def open_oracle(settings: WorkerSettings, oracle: OracleSettings) -> Oracle:
    """Ready at once; nothing is read from `settings.model_dir`, which only names the model."""
    layout = CacheLayout(
        num_slots=settings.rows_max,
        capacity=settings.context_max or _CONTEXT,
        keeps_decoded=True,
        num_blocks=settings.prefix_cache_mib * _BLOCKS_PER_MIB,
    )
    return Oracle(
        model=ModelFacts(
            name=settings.name,
            revision=oracle.revision,
            context_length=layout.capacity,
            vocab_size=VOCAB_SIZE,
            eos_ids=frozenset({EOS_ID}),
            fingerprint=FINGERPRINT,
        ),
        tokenizer=OracleTokenizer(),
        grammars=NoGrammars(),
        runner=OracleRunner(
            revision=oracle.revision,
            layout=layout,
            pace=Pace(
                step_s=oracle.slow * oracle.step_ms / 1e3,
                row_s=oracle.slow * oracle.row_us / 1e6,
                prompt_token_s=oracle.slow * oracle.prompt_token_us / 1e6,
            ),
        ),
        interceptors=(FaultInterceptor(oracle),),
    )
