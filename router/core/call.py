"""Everything that travels with one client request through the router."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from common.request.prompt_prefix import NO_PREFIX, PromptPrefix

__all__ = ["BYTES_PER_TOKEN", "NO_COST", "Call", "Cost", "RoutingView"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One client call."""

    request_id: str
    """The caller's, or made here; for logs and traces."""
    deadline: float
    """On the router's clock, seconds. Every call has one (`limits.deadline_s_max` if the caller has none)."""
    metadata: tuple[tuple[str, str], ...] = field(default=())
    """What goes to the worker beside the payload."""
    hides_token_ids: bool = False
    """The client asked for no token ids. The router needs them all the same, and takes them out."""
    is_resumed: bool = False
    """It goes on with another call: the first thing that comes need not be the beginning."""


BYTES_PER_TOKEN: Final = 4
"""Of text, for estimates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a request will take, estimated without a tokenizer."""

    tokens: int = 1
    """Prompt and expected output, over all choices; nothing is taken off for what is cached."""
    rows: int = 1
    """Rows of a worker's batch; 0 for calls that need none."""
    num_bytes: int = 0
    """Of the request, held while it waits."""


NO_COST: Final = Cost()
"""Of a call about which nothing is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingView:
    """The little that policies may see of a request. The core treats the request itself as opaque bytes."""

    model: str
    """"" means: the only one."""
    revision: str = ""
    """"" means: any; else a prefix of at least 8 hex digits."""
    session_key: str = ""
    priority: int = 0
    task: str = "generate"
    caller: str = ""
    """Who asks, for a fair share between callers; "" is everybody who does not say."""
    cost: Cost = NO_COST
    queue_s_max: float | None = None
    """Longest that the caller lets it wait for a row, seconds."""
    holder: str = ""
    """Id of the endpoint that has the call already: the first choice, whatever its state. "" when none is known."""
    only_holder: bool = False
    """Nobody else can answer: the call goes on with what the holder has computed."""
    join_key: bytes = b""
    """Calls with the same key meet on the same endpoint, so that they can join. b"" for calls that join none."""

    prefix: PromptPrefix = NO_PREFIX
    """Empty for requests that want no cache, and where nothing of the kind is hashed."""

    def without_holder(self) -> RoutingView:
        """After the holder has failed: whoever is best."""
        return replace(self, holder="", only_holder=False) if self.holder else self
