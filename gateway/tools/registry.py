"""Formats by name: to add one, write a file in `formats` and a line here."""

from __future__ import annotations

from typing import Final

from gateway.tools.format import Format
from gateway.tools.formats.granite import GRANITE
from gateway.tools.formats.hermes import HERMES
from gateway.tools.formats.llama3_json import LLAMA3_JSON
from gateway.tools.formats.mistral import MISTRAL
from gateway.tools.formats.plain_json import JSON
from gateway.tools.formats.pythonic import PYTHONIC

__all__ = ["FORMATS", "format_named"]

FORMATS: Final = {one.name: one for one in (HERMES, GRANITE, MISTRAL, LLAMA3_JSON, PYTHONIC, JSON)}


def format_named(name: str) -> Format:
    """JSON for a name that is not known here: a newer worker may know more formats."""
    return FORMATS.get(name, JSON)
