"""Background load: clients that ask one request after another until they are told to end."""

from __future__ import annotations

import asyncio
from typing import Final, final

from chaos.requests import make_request
from chaos.stage import Stage

__all__ = ["Load"]

_AFTER_ERROR_S: Final = 0.05
_LOOK_S: Final = 0.02


@final
class Load:
    """Closed loop, so what it sends follows what the cluster takes; `chaos.load_faults.surge` is the open one."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._ending = False

    def end(self) -> None:
        """Requests that run go on to their end."""
        self._ending = True

    async def run(self) -> None:
        """Returns when all have ended; each has a deadline."""
        async with asyncio.TaskGroup() as streams:
            for number in range(self._stage.scenario.load.streams):
                streams.create_task(self._stream(number))

    async def until_in_flight(self, num: int, within_s: float) -> bool:
        """Whether so many streams had tokens in time."""
        clock = self._stage.clock
        until = clock.now() + within_s
        while clock.now() < until:
            fed = sum(r.ended_at is None and r.num_tokens > 0 for r in self._stage.records)
            if fed >= num:
                return True
            await clock.sleep(_LOOK_S)
        return False

    async def _stream(self, number: int) -> None:
        stage, load = self._stage, self._stage.scenario.load
        client = stage.clients[number % len(stage.clients)]
        await stage.clock.sleep(stage.rng.random() * 0.3)  # not all at one step
        while not self._ending:
            kind = stage.rng.choice(load.kinds)
            request = make_request(kind, stage.rng.randrange(load.distinct), load.max_tokens)
            record = await client.ask(request, kind=kind, deadline_s=load.deadline_s)
            if record.code != "OK":
                await stage.clock.sleep(_AFTER_ERROR_S)
