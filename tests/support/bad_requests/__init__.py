"""The catalogue of requests that every door must refuse alike. The numbers are those of docs/bad-input.md."""

from __future__ import annotations

from typing import Final

from tests.support.bad_requests.constraints import constraints
from tests.support.bad_requests.names import names
from tests.support.bad_requests.parameters import parameters
from tests.support.bad_requests.prompts import prompts
from tests.support.bad_requests.row import Row
from tests.support.bad_requests.small import Small, is_tried_out, one_of_each, small

__all__ = ["ROWS", "Row", "Small", "is_tried_out", "one_of_each", "small"]

ROWS: Final[tuple[Row, ...]] = (*parameters(), *prompts(), *names(), *constraints())
