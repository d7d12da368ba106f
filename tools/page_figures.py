"""Draws the pictures of docs/page.md: the page in Chromium, before a cluster of its own that is busy.

Needs Chromium (`make browser`); with the fonts Inter and JetBrains Mono installed it looks as in the repository.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "common" / "gen")]

from playwright.sync_api import Page  # noqa: E402

from agent.ports import free_port  # noqa: E402
from tests.support.browser import browser  # noqa: E402

FIGURES = ROOT / "docs" / "figures"
QUESTIONS = ("What is Lepton?", "What are tokens?", "What is 27 + 35?")
OTHERS = 3
"""Streams beside ours, so that the workers have something to do."""


def main() -> int:
    """Draws both; returns the exit code."""
    with _cluster() as url, browser() as chromium:
        for name, options in {
            "page-desktop": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "dark"},
            "page-phone": {
                "viewport": {"width": 390, "height": 780},
                "color_scheme": "light",
                "device_scale_factor": 1.5,
                "has_touch": True,
                "is_mobile": True,
            },
        }.items():
            options_of_context: dict[str, Any] = options
            page = chromium.new_context(**options_of_context).new_page()
            page.goto(url)
            _use(page)
            page.screenshot(path=FIGURES / f"{name}.png")
            sys.stdout.write(f"wrote docs/figures/{name}.png\n")
    return 0


def _use(page: Page) -> None:
    page.wait_for_selector("#health[data-state=good]")
    for question in QUESTIONS:
        page.fill("#draft", question)
        page.press("#draft", "Enter")
        page.wait_for_selector(".turn:last-child .answer[aria-busy=false]")
    page.wait_for_timeout(6000)  # the trace comes, and the workers' lines grow
    page.evaluate("document.activeElement.blur()")
    page.wait_for_selector("#health[data-state=good]")


@contextmanager
def _cluster() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        up = subprocess.Popen(
            [
                *(sys.executable, "-m", "cli.main", "up", "--json", "--workers", "2"),
                *("--port", str(free_port()), "--http-port", str(free_port())),
                *("--metrics-port", str(free_port()), "--state-dir", folder),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        leave = threading.Event()
        try:
            assert up.stdout is not None  # noqa: S101
            events = (json.loads(line) for line in up.stdout)
            url = next(
                f"http://{e['http_address']}" for e in events if e["event"] == "cluster.ready"
            )
            others = [threading.Thread(target=_talk, args=(url, leave)) for _ in range(OTHERS)]
            for other in others:
                other.start()
            yield url
            leave.set()
            for other in others:
                other.join()
        finally:
            leave.set()
            up.send_signal(signal.SIGINT)
            up.wait()


def _talk(url: str, leave: threading.Event) -> None:
    """Streams of random length, one after the other."""
    body = {
        "messages": [{"role": "user", "content": "Tell me something."}],
        "max_tokens": 600,
        "ignore_eos": True,
        "temperature": 1.0,
        "stream": True,
    }
    while not leave.is_set():
        asked = urllib.request.Request(  # noqa: S310
            f"{url}/v1/chat/completions",
            json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(asked) as answer:  # noqa: S310
            for _ in answer:
                if leave.is_set():
                    return


if __name__ == "__main__":
    sys.exit(main())
