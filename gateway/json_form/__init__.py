"""Protobuf's own JSON form: strictly read, quickly written."""

from gateway.json_form.reader import from_json
from gateway.json_form.writer import as_json

__all__ = ["as_json", "from_json"]
