"""Relative links of the pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#[^)]*)?\)")
PAGES = sorted(
    page
    for folder in (".", "docs", "docs/adr", "models/demo", "training/demo")
    for page in (ROOT / folder).glob("*.md")
)


def _broken(page: Path) -> list[str]:
    return [
        target
        for target in LINK.findall(page.read_text("utf-8"))
        if not (page.parent / target).exists()
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert _broken(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[a](nowhere.md) [b](https://example.org) [c](page.md#part)")
    assert _broken(page) == ["nowhere.md"]


def test_the_readme_has_links() -> None:
    assert len(LINK.findall((ROOT / "README.md").read_text("utf-8"))) > 5
