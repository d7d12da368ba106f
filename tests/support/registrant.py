"""A process that announces one worker and lives until it is killed.

    python -m tests.support.registrant '{"etcd_endpoints": "127.0.0.1:2379"}' w1 first

It writes `announced` when it is.
"""

from __future__ import annotations

import asyncio
import json
import sys

from common.clock import SystemClock
from common.discovery.open import open_registrar
from common.discovery.settings import DiscoverySettings
from tests.support.instances import make_instance


async def _main(settings: str, worker_id: str, incarnation: str) -> None:
    registrar = open_registrar(
        DiscoverySettings.model_validate(json.loads(settings)), SystemClock()
    )
    registration = await registrar.register(make_instance(worker_id, incarnation=incarnation))
    try:
        sys.stdout.write("announced\n" if registration.announced else "away\n")
        sys.stdout.flush()
        await asyncio.Event().wait()
    finally:
        await registration.close()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
