"""Which router is asked first: the one that answered last."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, final

__all__ = ["Routers"]

_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\s/]+):\d{1,5}")


@final
class Routers:
    """Addresses of one cluster."""

    def __init__(self, addresses: Sequence[str]) -> None:
        """ValueError when there is none, or one is not `host:port`."""
        if not addresses:
            raise ValueError("name at least one router, for example 127.0.0.1:50051")
        for address in addresses:
            if not _ADDRESS.fullmatch(address):
                raise ValueError(
                    f"{address!r} is not an address; write HOST:PORT, for example 127.0.0.1:50051"
                )
        self.addresses = tuple(dict.fromkeys(addresses))
        self._first = 0

    def in_order(self) -> tuple[str, ...]:
        """Whom to try, each once."""
        return self.addresses[self._first :] + self.addresses[: self._first]

    def answered(self, address: str) -> None:
        """From now on it is the first."""
        self._first = self.addresses.index(address)
