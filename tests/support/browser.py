"""A real headless Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.needs import lacking

__all__ = ["WITHOUT_NOISE", "Watched", "browser", "require_chromium"]

WITHOUT_NOISE = (
    "--no-sandbox",  # tests may run as root, in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""Flags without which a browser asks other servers about itself."""


def require_chromium() -> str:
    """Path of the browser. Where it is missing tests are skipped, in CI they fail."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        lacking("Chromium is missing: run `make browser`")
    return found


@contextmanager
def browser() -> Iterator[Browser]:
    """One browser for the length of the block."""
    path = require_chromium()
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=list(WITHOUT_NOISE))
        yield found
        found.close()


class Watched:
    """Everything that a page complains about."""

    def __init__(self, page: Page) -> None:
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("console", lambda said: self._heard(said.type, said.text))
        page.on("request", lambda asked: self._asked(asked.url))
        self._origin = ""

    def _heard(self, kind: str, text: str) -> None:
        # That a request failed is told by the browser itself, whatever the page makes of it.
        if kind in {"error", "warning"} and not text.startswith("Failed to load resource"):
            self.complaints.append(f"{kind}: {text}")

    def _asked(self, url: str) -> None:
        origin = "/".join(url.split("/")[:3])
        self._origin = self._origin or origin
        if origin != self._origin:
            self.complaints.append(f"asks {url}")
