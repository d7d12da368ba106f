"""What a completion must follow: the constraint as it was asked for, a grammar per request, a matcher per sequence.

The engine carries them and looks into none; the runtime compiles (`worker.runtime.grammar`), and whoever draws the
tokens asks the matchers (`worker.runtime.sampler`).
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Constraint", "ConstraintKind", "Grammar", "Matcher"]


class ConstraintKind(StrEnum):
    """Ways of saying what a text must look like; the values are the fields of `lepton.v1.Constraint`."""

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    LARK = "grammar"
    JSON_OBJECT = "json_object"
    LITERALS = "literals"


@dataclass(frozen=True, slots=True)
class Constraint:
    """What a client asked for: within the limits, not yet read."""

    kind: ConstraintKind
    texts: tuple[str, ...] = ()
    """The schema, the expression or the grammar; all the literals; nothing for any JSON object."""

    @property
    def field(self) -> str:
        """The request field to blame."""
        return f"constraint.{self.kind.value}"


class Matcher(Protocol):
    """Where one completion stands in its grammar. For one thread at a time: the one that draws.

    `advance` begins to compute what may follow in the background; `allows` and `allowed` wait for it. Errors of all
    three: `InvalidRequest` (GRAMMAR_TOO_LARGE when a limit is reached); the completion cannot go on then.
    """

    def allows(self, token_id: int) -> bool:
        """Whether this token may come next; an end-of-sequence token exactly when the completion so far is complete."""
        ...

    def allowed(self) -> npt.NDArray[np.bool_]:
        """The same for all tokens, [vocab]; the caller changes nothing in it."""
        ...

    def advance(self, token_id: int) -> bool:
        """Takes the next token, which must be allowed and not end the sequence. True: complete, nothing may follow."""
        ...


class Grammar(Protocol):
    """A compiled grammar, for the choices of one request."""

    def new_matcher(self, generated_ids: SequenceOf[int] = ()) -> Matcher:
        """A matcher that stands behind `generated_ids`; rebuilding one from its ids gives the same.

        Raises `InvalidRequest(GRAMMAR_UNSATISFIABLE)` when the ids do not follow the grammar.
        """
        ...
