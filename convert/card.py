"""README.md of a converted model: where it comes from, what it is, what rounding cost, how to make it again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jinja2

from convert.result import Facts

__all__ = ["FORMS", "write_card"]

TEMPLATE: Final = Path(__file__).with_name("card.md.jinja")

FORMS: Final = {
    "stored": "weights as stored",
    "int8": "weights as 8-bit integers",
    "native": "our own operators",
}
"""Form of the weights (`worker.conversion.forms`) → for people."""


def write_card(
    folder: Path,
    facts: Facts,
    *,
    source_bytes: int,
    weight_bytes: int,
    accuracy: Mapping[str, Mapping[str, Any]] | None,
) -> None:
    """Writes `folder`/README.md."""
    environment = jinja2.Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown, not a page
    )
    text = environment.from_string(TEMPLATE.read_text("utf-8")).render(
        facts=facts,
        source_bytes=source_bytes,
        weight_bytes=weight_bytes,
        accuracy=accuracy,
        forms=FORMS,
    )
    (folder / "README.md").write_text(text, "utf-8")
