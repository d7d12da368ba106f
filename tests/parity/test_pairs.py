"""B08: what works alone works beside everything else that works alone, or is refused by name; nobody else is harmed."""

from __future__ import annotations

import itertools
from typing import Any, Final

import pytest

from common.errors import Reason
from tests.support.doors import DOORS, Answered, Doors, Refusal

pytestmark = pytest.mark.asyncio(loop_scope="module")

Fields = dict[str, dict[str, Any]]

VALID: Final[dict[str, Fields]] = {
    "temperature": {"sampling": {"temperature": 1.5, "seed": "7"}},
    "top_k and top_p": {"sampling": {"top_k": 3, "top_p": 0.5}},
    "min_p": {"sampling": {"min_p": 0.2}},
    "repetition_penalty": {"sampling": {"repetition_penalty": 1.3}},
    "frequency_penalty": {"sampling": {"frequency_penalty": -2}},
    "presence_penalty": {"sampling": {"presence_penalty": 2}},
    "logit_bias": {"sampling": {"logit_bias": {"5": -100, "9": 3}}},
    "n": {"sampling": {"n": 3}},
    "min_tokens": {"stop": {"min_tokens": 3}},
    "stop strings": {"stop": {"strings": ["e", "zz"]}},
    "stop ids": {"stop": {"token_ids": [11]}},
    "ignore_eos": {"stop": {"ignore_eos": True}},
    "logprobs": {"output": {"logprobs": 3}},
    "no ids": {"output": {"token_ids": False}},
    "json_schema": {"constraint": {"json_schema": '{"type": "array", "items": {"type": "integer"}}'}},
    "regex": {"constraint": {"regex": "[a-z]{3,12}"}},
    "literals": {"constraint": {"literals": {"texts": ["yes it is", "no it is not"]}}},
    "no cache": {"cache": {"bypass": True}},
    "priority": {"service_level": {"queue_timeout_ms": 5000}},
}  # fmt: skip

PAIRS: Final = [
    (one, other)
    for one, other in itertools.combinations(VALID, 2)
    if not ("constraint" in VALID[one] and "constraint" in VALID[other])  # a request has one
]

REFUSED: Final = {Reason.FIELDS_CONTRADICT, Reason.GRAMMAR_UNSATISFIABLE}
"""What a pair may be told: `ignore_eos` beside a constraint, or one that cannot be met with so few tokens or ids."""


@pytest.mark.parametrize("name", VALID)
async def test_alone(doors: Doors, name: str) -> None:
    assert isinstance(await DOORS["gRPC"](doors, _asked(VALID[name])), Answered)


@pytest.mark.parametrize(("one", "other"), PAIRS)
async def test_in_pairs(doors: Doors, one: str, other: str) -> None:
    told = await DOORS["gRPC"](doors, _asked(VALID[one], VALID[other]))
    if isinstance(told, Refusal):
        assert told.reason in REFUSED
        assert "constraint" in {*VALID[one], *VALID[other]}, told


def _asked(*fields: Fields) -> dict[str, Any]:
    request: dict[str, Any] = {"text": "Once there was", "stop": {"max_tokens": 16}}
    for part in fields:
        for section, values in part.items():
            request[section] = {**request.get(section, {}), **values}
    return request
