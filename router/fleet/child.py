"""`python -m router.fleet.child`: one of several routers on a port. Started by the parent, ends with it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, final

from common.logs import get_logger, setup_logs
from common.process import CRASHED, StopRequest, run_process
from router.config import Config
from router.fleet.place import Ports
from router.process import PROCESS, SERVICE_NAME, serve_one

__all__ = ["main"]

log = get_logger("router.fleet.child")  # not __main__


@final
class _Lifeline(asyncio.Protocol):
    """The pipe that the parent holds. Nothing comes through it but its end."""

    def connection_lost(self, exc: Exception | None) -> None:
        # A parent that ends well waits for us. This one was killed, and its heir needs the port.
        log.error("fleet.parent_lost")
        os._exit(CRASHED)


async def serve_child(sections: Mapping[str, Any], stop: StopRequest) -> None:
    """See `common.process.Serve`."""
    config = Config(**sections).with_id()
    setup_logs(config.telemetry, service=SERVICE_NAME, instance_id=config.router.id)
    loop = asyncio.get_running_loop()
    # A terminal's Ctrl-C, and a service manager's SIGTERM, reach every process; then comes the parent's SIGTERM.
    # However often they come, a child drains: to cut it short is for the parent to decide.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    loop.add_signal_handler(signal.SIGTERM, stop.request)
    await loop.connect_read_pipe(_Lifeline, sys.stdin)

    def tell_parent(ports: Ports) -> None:
        log.info("fleet.process_ready", port=ports.grpc, metrics_port=ports.metrics)
        sys.stdout.write(json.dumps({"metrics_port": ports.metrics}) + "\n")
        sys.stdout.flush()

    await serve_one(config, stop, on_ready=tell_parent, shares_port=True)


def main() -> int:
    """Runs one child; the exit codes are those of `common.process`."""
    return run_process(replace(PROCESS, serve=serve_child), [])


if __name__ == "__main__":
    sys.exit(main())
