"""A constraint → the Lark text that llguidance compiles.

Every text ends in a directive: llguidance shall not force the spelling of what the grammar forces. It would ask a
tokenizer for it in the middle of a mask; this way the model chooses among all spellings, and no tokenizer is asked. The
directive comes last, so that the lines of a client's grammar keep their numbers.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import llguidance

from common.request.json_space import JSON_SPACE_MAX
from worker.engine.grammar import Constraint, ConstraintKind
from worker.runtime.grammar.refusal import invalid, too_large, unsupported

__all__ = ["lark_of"]

_DIRECTIVE: Final = '\n%llguidance {"no_forcing": true}\n'

_JSON_OPTIONS: Final = {
    "whitespace_pattern": rf"[ \n\r\t]{{1,{JSON_SPACE_MAX}}}",
    "lenient": False,  # a keyword that cannot be enforced is an error
    "coerce_one_of": False,
}
_OPTIONS_KEY: Final = "x-guidance"
_TEMPERATURE: Final = re.compile(r"^\s*[?!]?[\w-]+\s*\[[^\]]*\btemperature\s*=", re.MULTILINE)
_ODD_BACKSLASHES: Final = re.compile(r"(?<!\\)(?:\\\\)*\\$")


def lark_of(constraint: Constraint) -> str:
    """Raises `Refusal` for what need not be compiled to be refused."""
    match constraint.kind:
        case ConstraintKind.JSON_OBJECT:
            text = _json('{"type": "object"}')
        case ConstraintKind.JSON_SCHEMA:
            text = _json(*constraint.texts)
        case ConstraintKind.REGEX:
            text = _regex(*constraint.texts)
        case ConstraintKind.LITERALS:
            # One terminal, not a rule of many: the lexer tells literals apart, the parser sees one symbol.
            text = f"start: LITERAL\nLITERAL: {' | '.join(map(json.dumps, constraint.texts))}"
        case ConstraintKind.LARK:
            text = _lark(*constraint.texts)
    return text + _DIRECTIVE


def _json(text: str) -> str:
    try:
        schema: Any = json.loads(text)
    except RecursionError:
        raise too_large("the schema is nested too deeply") from None
    except ValueError as error:
        raise invalid(f"the schema is not JSON: {error}") from None
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise invalid("a JSON schema is an object, or true")
    if _OPTIONS_KEY in schema:
        raise unsupported(f"the key {_OPTIONS_KEY!r} of a schema is ours")
    return "start: %json " + json.dumps(schema | {_OPTIONS_KEY: _JSON_OPTIONS})


def _regex(text: str) -> str:
    if _ODD_BACKSLASHES.search(text):
        raise invalid("the expression ends in a backslash that escapes nothing")
    # Digits and word characters are ASCII, as in JSON schemas: "٣" is no digit to whoever parses the answer.
    return f"start: /{llguidance.regex_to_lark(text, 'dw')}/" if text else 'start: ""'


def _lark(text: str) -> str:
    if text.lstrip().startswith("{"):
        raise invalid("a Lark grammar has rules, such as start: /[0-9]+/")
    if "%llguidance" in text:
        raise unsupported("the directive %llguidance is ours")
    if _TEMPERATURE.search(text):
        raise unsupported("the attribute temperature of a rule; set sampling.temperature")
    return text
