"""The files of the page: small, ours alone, and sent so that a browser keeps them and lets nothing else in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.requests import Request

from gateway.page.assets import INDEX, load_assets, respond
from tests.support.processes import ROOT

STATIC = ROOT / "gateway" / "page" / "static"
FILES = sorted(STATIC.iterdir())
SCRIPTS = [path for path in FILES if path.suffix == ".js"]
MODULES = {path.name for path in SCRIPTS} - {"theme.js"}
BYTES_MAX = 60_000


def _asked(etag: str = "") -> Request:
    headers = [(b"if-none-match", etag.encode())] if etag else []
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers})


def test_the_whole_page_is_small() -> None:
    assert sum(path.stat().st_size for path in FILES) < BYTES_MAX


def test_every_file_has_a_type() -> None:
    assert set(load_assets()) == {path.name for path in FILES}


def test_a_browser_that_has_a_file_does_not_get_it_again() -> None:
    asset = load_assets()[INDEX]
    fresh = respond(asset, _asked())
    assert (fresh.status_code, fresh.body) == (200, asset.body)
    assert respond(asset, _asked(f'"other", W/{asset.etag}')).status_code == 304
    assert respond(asset, _asked('"other"')).status_code == 200


def test_the_policy_allows_our_files_and_nothing_else() -> None:
    policy = respond(load_assets()[INDEX], _asked()).headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_comes_from_elsewhere(path: Path) -> None:
    text = path.read_text("utf-8")
    names_of_formats = ("http://www.w3.org/2000/svg", "https://html.spec.whatwg.org/")
    found = [url for url in re.findall(r"https?://[^\s\"'`)]+", text) if "${" not in url]
    assert [url for url in found if not url.startswith(names_of_formats)] == []
    assert not re.search(r"@import|\burl\(", text)


def test_markup_holds_no_script_and_no_style() -> None:
    text = (STATIC / INDEX).read_text("utf-8")
    assert not re.search(r"\sstyle=|\son\w+=|<style|javascript:|<script>", text)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_text_never_becomes_markup(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|cookie", text
    )


def test_every_module_is_there_and_is_asked_for_at_once() -> None:
    """Else a browser finds them one after the other."""
    page = (STATIC / INDEX).read_text("utf-8")
    preloaded = set(re.findall(r'rel="modulepreload" href="/page/(\w+\.js)"', page))
    imported = {
        name
        for path in SCRIPTS
        for name in re.findall(r'from "\./(\w+\.js)"', path.read_text("utf-8"))
    }
    assert imported | {"main.js"} == MODULES
    assert preloaded == MODULES - {"main.js"}
