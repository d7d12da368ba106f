"""Which router is asked first: the one that answered last, after a failure the one behind it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, final

__all__ = ["Route", "Routers", "check_address"]

_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\s/]+):\d{1,5}")


def check_address(address: str) -> None:
    """ValueError when it is not `host:port`."""
    if not _ADDRESS.fullmatch(address):
        raise ValueError(
            f"{address!r} is not an address; write HOST:PORT, for example 127.0.0.1:50051"
        )


@final
class Routers:
    """Addresses of one cluster."""

    def __init__(self, addresses: Sequence[str]) -> None:
        """ValueError when there is none, or one is not `host:port`."""
        if not addresses:
            raise ValueError("name at least one router, for example 127.0.0.1:50051")
        for address in addresses:
            check_address(address)
        self.addresses = tuple(dict.fromkeys(addresses))
        self._first = 0

    def in_order(self, *, after: str | None = None) -> tuple[str, ...]:
        """Whom to try, each once; `after` comes last."""
        first = self._first if after is None else self.addresses.index(after) + 1
        return self.addresses[first:] + self.addresses[:first]

    def answered(self, address: str) -> None:
        """From now on it is the first."""
        self._first = self.addresses.index(address)


@final
class Route:
    """The way of one call through the routers."""

    def __init__(self, routers: Routers) -> None:
        self._routers = routers
        self._failed_at: str | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        """All routers."""
        return self._routers.addresses

    def in_order(self) -> tuple[str, ...]:
        """Whom the next attempt tries, each once: whoever ended the one before comes last."""
        return self._routers.in_order(after=self._failed_at)

    def answered(self, address: str) -> None:
        """With whatever: somebody is there."""
        self._routers.answered(address)
        self._failed_at = None

    def failed(self, address: str) -> None:
        """It refused the call, or lost it. What is so there (it drains, its line is full, it hangs) may be otherwise
        elsewhere.
        """
        self._failed_at = address
