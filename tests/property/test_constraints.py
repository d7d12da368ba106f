"""Whatever is drawn under a constraint follows it: against jsonschema and re, with logits that know nothing."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from common.request.json_space import JSON_SPACE_MAX
from tests.support.grammars import compiled, json_schema, regex
from tests.support.tiny_models import make_sequence
from worker.engine.grammar import Constraint, ConstraintKind
from worker.engine.sampling_params import SamplingParams
from worker.runtime.artifacts import read_artifact
from worker.runtime.grammar.tokens import TokenTable, token_table
from worker.runtime.sampler import Sampler
from worker.runtime.tokenizer import Tokenizer, open_tokenizer

DEMO = Path(__file__).resolve().parents[2] / "models" / "demo"
TOKENS_MAX = 400


@cache
def demo() -> tuple[Tokenizer, TokenTable]:
    artifact = read_artifact(DEMO)
    tokenizer = open_tokenizer(artifact)
    model = artifact.config.model
    table = token_table(
        tokenizer.vocabulary, vocab_size=model.vocab_size, eos_ids=frozenset(model.eos_ids)
    )
    assert table is not None
    return tokenizer, table


def draw(constraint: Constraint, seed: int, temperature: float) -> str | None:
    """A completion of random logits; None when it is not complete after `TOKENS_MAX` tokens."""
    tokenizer, table = demo()
    rng = np.random.default_rng(seed)
    sequence = make_sequence(
        [1],
        sampling=SamplingParams(temperature=temperature, seed=seed),
        eos_ids=frozenset(table.eos_ids),
    )
    sequence.grammar = compiled(constraint, table)
    sampler = Sampler()
    while len(sequence.generated_ids) < TOKENS_MAX:
        logits = rng.normal(0, 3, (1, len(table.token_bytes))).astype(np.float32)
        (sampled,) = sampler.sample(logits, [sequence])
        assert sampled.token_id is not None, sampled.error
        sequence.generated_ids.append(sampled.token_id)
        if sampled.is_complete or sampled.token_id in table.eos_ids:
            return tokenizer.decode(sequence.generated_ids)
    return None


names = st.sampled_from(["a", "b", "name", "x/y", 'q"', "é", "$ref", ""])
scalars: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(
        lambda low, size: {"type": "integer", "minimum": low, "maximum": low + size},
        st.integers(-1000, 1000),
        st.integers(0, 5000),
    ),
    st.just({"type": "integer", "multipleOf": 7}),
    st.builds(
        lambda low, size: {"type": "number", "minimum": low, "exclusiveMaximum": low + size},
        st.integers(-20, 20),
        st.integers(1, 50),
    ),
    st.builds(
        lambda low, size: {"type": "string", "minLength": low, "maxLength": low + size},
        st.integers(0, 4),
        st.integers(0, 8),
    ),
    st.sampled_from(["^[a-z]{2,5}$", "[0-9]", "^(ab|cd)+$"]).map(
        lambda pattern: {"type": "string", "pattern": pattern, "maxLength": 12}
    ),
    st.sampled_from(["date", "time", "date-time", "uuid", "ipv4", "ipv6", "email"]).map(
        lambda name: {"type": "string", "format": name}
    ),
    st.lists(
        st.one_of(st.none(), st.booleans(), st.integers(-9, 99), names),
        min_size=1,
        max_size=5,
        unique_by=repr,
    ).map(lambda values: {"enum": values}),
    st.just({"const": {"a": [1, None, "x"]}}),
)


def nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    properties = st.dictionaries(names, inner, max_size=4)
    return st.one_of(
        st.builds(
            lambda items, low, size: {
                "type": "array",
                "items": items,
                "minItems": low,
                "maxItems": low + size,
            },
            inner,
            st.integers(0, 2),
            st.integers(0, 3),
        ),
        st.builds(
            lambda properties, skip, extra: {
                "type": "object",
                "properties": properties,
                "required": sorted(properties)[skip:],
                "additionalProperties": extra,
            },
            properties,
            st.integers(0, 3),
            st.one_of(st.just(False), inner),
        ),
        inner.map(
            lambda schema: {
                "type": "object",
                "patternProperties": {"^k[0-9]$": schema},
                "additionalProperties": False,
                "maxProperties": 3,
            }
        ),
        inner.map(
            lambda schema: {
                "oneOf": [
                    {
                        "type": "object",
                        "properties": {"t": {"const": t}, "v": schema},
                        "required": ["t"],
                    }
                    for t in ("x", "y")
                ]
            }
        ),
        inner.map(lambda schema: {"allOf": [schema, {"title": "all"}]}),
        st.lists(inner, min_size=1, max_size=3).map(lambda schemas: {"anyOf": schemas}),
        inner.map(lambda schema: {"$ref": "#/$defs/part", "$defs": {"part": schema}}),
        inner.map(
            lambda schema: {
                "type": "array",
                "prefixItems": [schema],
                "items": False,
                "minItems": 1,
            }
        ),
    )


def rooted(schema: dict[str, Any]) -> dict[str, Any]:
    """References of parts are relative to the whole: their definitions move to the top."""
    definitions: dict[str, Any] = {}

    def walk(part: Any) -> Any:
        if isinstance(part, list):
            return [walk(one) for one in part]
        if not isinstance(part, dict):
            return part
        if "$defs" in part and set(part) == {"$ref", "$defs"}:
            name = f"d{len(definitions)}"
            definitions[name] = None
            definitions[name] = walk(part["$defs"]["part"])
            return {"$ref": f"#/$defs/{name}"}
        return {
            key: value if key in ("enum", "const") else walk(value) for key, value in part.items()
        }

    whole = walk(schema)
    return {**whole, "$defs": definitions} if definitions else whole


schemas = st.recursive(scalars, nested, max_leaves=6).map(rooted)


@settings(max_examples=120)
@given(
    schema=schemas, seed=st.integers(0, 2**32), temperature=st.sampled_from([0.0, 0.3, 1.0, 3.0])
)
def test_an_answer_validates_against_its_schema(
    schema: dict[str, Any], seed: int, temperature: float
) -> None:
    Draft202012Validator.check_schema(schema)
    text = draw(json_schema(json.dumps(schema)), seed, temperature)
    event("complete" if text is not None else "cut")
    assume(text is not None)
    assert text is not None
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    validator.validate(json.loads(text))
    assert not re.search(rf"[ \n\r\t]{{{JSON_SPACE_MAX + 1}}}", text)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32), temperature=st.sampled_from([0.3, 1.0, 3.0]))
def test_any_json_object_is_one(seed: int, temperature: float) -> None:
    text = draw(Constraint(ConstraintKind.JSON_OBJECT), seed, temperature)
    assume(text is not None)
    assert text is not None
    assert isinstance(json.loads(text), dict)


pieces = st.recursive(
    st.sampled_from(
        ["a", "bc", "[0-9]", r"\d", r"\w", "[^x]", ".", "é", r"\.", "/", '"', " ", r"\n", "(?:)"]
    ),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
        st.builds(
            lambda part, times: f"(?:{part}){times}",
            inner,
            st.sampled_from(["?", "*", "+", "{2}", "{0,3}", "+?"]),
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=120)
@given(expression=pieces, seed=st.integers(0, 2**32), temperature=st.sampled_from([0.0, 1.0, 3.0]))
def test_an_answer_matches_its_expression(expression: str, seed: int, temperature: float) -> None:
    text = draw(regex(expression), seed, temperature)
    event("complete" if text is not None else "cut")
    assume(text is not None)
    assert text is not None
    assert re.fullmatch(expression, text), (expression, text)
