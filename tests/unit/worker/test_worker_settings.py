from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.errors import Conflict
from worker.addresses import advertised
from worker.settings import WorkerSettings


def settings(**fields: Any) -> WorkerSettings:
    return WorkerSettings(model_dir=Path("models/demo"), **fields)


def test_the_model_is_named_after_its_folder_unless_told() -> None:
    assert settings().name == "demo"
    assert settings(model_name="m").name == "m"


@pytest.mark.parametrize("chunk_tokens_max", [4, 33, 512, 4096])
def test_any_chunk_size_makes_a_valid_engine(chunk_tokens_max: int) -> None:
    config = settings(chunk_tokens_max=chunk_tokens_max).engine_config()
    assert config.chunk_tokens_max == chunk_tokens_max


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "127.0.0.1:7"),
        ({"advertise": "worker-1:50061"}, "worker-1:50061"),
        ({"advertise": "worker-1"}, "worker-1:7"),
        ({"advertise": "[fd00::1]"}, "[fd00::1]:7"),
        ({"advertise": "[fd00::1]:9"}, "[fd00::1]:9"),
        ({"advertise": "fd00::1"}, "[fd00::1]:7"),
        ({"host": "::1"}, "[::1]:7"),
        ({"host": "0.0.0.0", "advertise": "w"}, "w:7"),
    ],
)
def test_routers_are_told_an_address_that_they_can_reach(
    fields: dict[str, str], expected: str
) -> None:
    assert advertised(settings(**fields), 7) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "0.0.0.0"},
        {"host": "::"},
        {"advertise": "0.0.0.0:50061"},
        {"advertise": "[::]:50061"},
        {"advertise": ":50061"},
        {"advertise": "w:"},
        {"advertise": "w:0"},
        {"advertise": "w:65536"},
        {"advertise": "w:port"},
    ],
    ids=lambda fields: next(iter(fields.values())),
)
def test_an_address_that_nobody_can_reach_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(Conflict, match=r"worker\.advertise"):
        advertised(settings(**fields), 7)
