"""Parts of a page that a program writes, between markers; what people wrote around them stays.

<!-- begin NAME: written by COMMAND -->
…
<!-- end NAME -->
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["replace_part", "with_part"]


def replace_part(page: Path, name: str, text: str) -> None:
    """Puts `text` between the markers of `name`. Raises ValueError when the page has no such part, or two."""
    page.write_text(with_part(page.read_text("utf-8"), name, text), "utf-8")


def with_part(page: str, name: str, text: str) -> str:
    """The same on the content of a page."""
    part = re.compile(
        rf"(?P<begin><!-- begin {re.escape(name)}(?::[^>]*)? -->\n).*?(?P<end><!-- end {re.escape(name)} -->)",
        re.DOTALL,
    )
    found = part.findall(page)
    if len(found) != 1:
        raise ValueError(f"{len(found)} parts are called {name!r}; the page needs one")
    return part.sub(lambda at: f"{at['begin']}\n{text.strip()}\n\n{at['end']}", page)
