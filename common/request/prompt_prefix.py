"""How a prompt begins, as router and worker both know it without telling each other the prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["NO_PREFIX", "PromptPrefix"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptPrefix:
    """How a prompt begins, at several lengths, without saying it. Two prompts that begin alike have the first hashes
    in common.
    """

    hashes: tuple[int, ...] = ()
    """64 bits each, shortest beginning first; each stands for everything up to it."""
    ends: tuple[int, ...] = ()
    """For each hash, how many bytes of the prompt it covers (a token id counts as four)."""
    is_whole: bool = False
    """Whether the last one covers the whole prompt; false when the prompt has more places than are hashed."""
    conversation: int = 0
    """Hash up to the first message of a user: the same in every turn of one chat. 0: none."""

    @property
    def num_bytes(self) -> int:
        """What the longest hash covers."""
        return self.ends[-1] if self.ends else 0


NO_PREFIX: Final = PromptPrefix()
