"""Background load: clients that ask one request after another until they are told to end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final, final

from chaos.client import LedgerClient
from chaos.record import Record
from chaos.requests import make_request
from chaos.scenario import LoadWish
from common.clock import Clock

__all__ = ["Load"]

_AFTER_ERROR_S: Final = 0.05
_LOOK_S: Final = 0.02
_START_SPREAD_S: Final = 0.3


@final
class Load:
    """Closed loop, so what it sends follows what the cluster takes; `chaos.load_faults.surge` is the open one."""

    def __init__(
        self,
        wish: LoadWish,
        *,
        clients: Callable[[], Sequence[LedgerClient]],
        clock: Clock,
        rng: random.Random,
        model: str = "",
    ) -> None:
        """`clients` says which of them may be used now, as a load balancer would."""
        self._wish = wish
        self._clients = clients
        self._clock = clock
        self._rng = rng
        self._model = model
        self._ending = False
        self.current: list[Record | None] = [None] * wish.streams
        """What each stream asked last."""

    def end(self) -> None:
        """Requests that run go on to their end."""
        self._ending = True

    async def run(self) -> None:
        """Returns when all have ended; each has a deadline."""
        async with asyncio.TaskGroup() as streams:
            for number in range(self._wish.streams):
                streams.create_task(self._stream(number))

    async def until_fed(self, num: int, within_s: float) -> bool:
        """Whether so many streams had tokens in time."""
        until = self._clock.now() + within_s
        while self._clock.now() < until:
            running = [r for r in self.current if r is not None and r.ended_at is None]
            if sum(r.num_tokens > 0 for r in running) >= num:
                return True
            await self._clock.sleep(_LOOK_S)
        return False

    async def _stream(self, number: int) -> None:
        wish, rng = self._wish, self._rng
        await self._clock.sleep(rng.random() * _START_SPREAD_S)  # not all at one step
        while not self._ending:
            clients = self._clients()
            client = clients[number % len(clients)]
            kind = rng.choice(wish.kinds)
            request = make_request(
                kind, rng.randrange(wish.distinct), wish.max_tokens, model=self._model
            )
            record = client.record(request, kind=kind, deadline_s=wish.deadline_s)
            self.current[number] = record
            await client.run(record)
            if record.code != "OK":
                await self._clock.sleep(_AFTER_ERROR_S)
