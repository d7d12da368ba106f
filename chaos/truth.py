"""Where the right answers of a run come from: the oracle's function, or an uninterrupted run of the same request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from chaos.client import LedgerClient
from chaos.expect import oracle_answer
from chaos.record import Answer, Record, answer_of
from chaos.requests import make_request
from common.errors import Internal, Reason
from common.oracle import REVISION

__all__ = ["OracleTruth", "ReferenceTruth", "Truth"]


@final
class OracleTruth:
    """Computed here."""

    def __init__(self) -> None:
        self.revisions = frozenset({REVISION})
        self._known: dict[tuple[bytes, int], Answer] = {}

    def __call__(self, record: Record) -> Answer | None:
        """The answer that the record should be, or the beginning of."""
        started = record.started
        if started is None:
            return None
        key = (record.request.SerializeToString(), started.seed)
        if key not in self._known:
            self._known[key] = oracle_answer(record.request, revision=REVISION, seed=started.seed)
        return self._known[key]


@final
class ReferenceTruth:
    """Asked of the cluster itself while nothing is broken and nothing else runs. Made by `ask`."""

    def __init__(self, answers: dict[bytes, Answer], revisions: frozenset[str]) -> None:
        self.revisions = revisions
        self._answers = answers

    def __call__(self, record: Record) -> Answer | None:
        """None for a request that was not asked before."""
        return self._answers.get(record.request.SerializeToString())

    @classmethod
    async def ask(
        cls,
        client: LedgerClient,
        kinds: Sequence[str],
        *,
        distinct: int,
        max_tokens: int,
        model: str = "",
    ) -> ReferenceTruth:
        """One request after another. Raises `Internal` when one does not end well; there is then nothing to compare."""
        answers: dict[bytes, Answer] = {}
        revisions = set()
        for kind in kinds:
            for number in range(distinct):
                request = make_request(kind, number, max_tokens, model=model)
                record = await client.ask(request, kind=kind, deadline_s=60.0)
                if not record.is_whole or record.started is None:
                    raise Internal(
                        f"the uninterrupted run failed: {record.code} {record.reason} {record.message}",
                        reason=Reason.INTERNAL,
                    )
                answers[request.SerializeToString()] = answer_of(record)
                revisions.add(record.started.revision)
        client.records.clear()
        return cls(answers, frozenset(revisions))


Truth = OracleTruth | ReferenceTruth
